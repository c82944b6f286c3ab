"""A judge on an OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from howsure.api import Client
from howsure.judges import Pair, Progress
from howsure.judges.wording import INSTRUCTION, prompt, verdict

MAX_TOKENS = 8
"""Of a reply; one word is asked for."""


@dataclass(frozen=True, slots=True)
class RemoteJudge:
    """Asks a server's chat model, greedily."""

    client: Client

    def __call__(
        self, pairs: Sequence[Pair], on_progress: Progress | None = None
    ) -> list[bool | None]:
        """Raises ApiError when the server can't be asked."""
        bodies = [
            {
                "messages": [
                    {"role": "system", "content": INSTRUCTION},
                    {"role": "user", "content": prompt(p)},
                ],
                "max_tokens": MAX_TOKENS,
            }
            for p in pairs
        ]
        replies = self.client.ask(bodies, on_progress)
        return [verdict(text) for text in replies]
