"""Chat templates: a conversation as text, in which the template's own special tokens are marked.

A question is untrusted: an "</s>" or "[/INST]" written in it must stay ordinary characters, while
the same text set by the template must become the special token. So the template is rendered with
placeholders instead of the contents, the special tokens in what it wrote are marked
(`prompts.marked`), and only then the contents are put in. `Tokens.encode` turns marks, and nothing
else, into special tokens; the ids are those of `apply_chat_template`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from howsure.errors import ModelError, UnknownName
from howsure.lm.names import find_known
from howsure.prompts import CORRECTNESS_QUERY, NO_BOS, marked, plain

ChatMode = Literal["auto", "on", "off"]
CHAT_MODES: tuple[ChatMode, ...] = ("auto", "on", "off")

Turns = Sequence[tuple[str, str]]
"""Earlier turns, each (what the user says, what the assistant says)."""

_ARGUMENTS = {"enable_thinking": False, "date_string": "26 Jul 2024"}
"""What templates ask for: no reasoning before the answer, and no date of today (Llama 3.2), which
would make tomorrow's prompts others than today's."""

_SLOT = "\ufdd2"


@dataclass(frozen=True, slots=True)
class Frame:
    """A conversation up to its last question, whose place is between `before` and `after`."""

    prefix: str
    """The earlier turns."""
    before: str
    after: str
    """The end of the user's turn and the opening of the assistant's."""

    def question(self, text: str) -> str:
        return f"{self.before}{plain(text.strip())}{self.after}"


class Chat:
    """The chat template of one tokenizer, seen as the parts of a passage."""

    def __init__(self, tokenizer: Any, name: str) -> None:
        """Raises ModelError for a template that can't carry a conversation of our kind."""
        self._tokenizer = tokenizer
        self._name = name
        specials = {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
        specials |= set(tokenizer.all_special_tokens)
        longest_first = sorted(specials, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")
        opened = self._render(["user"], open_turn=True)
        answered = self._render(["user", "assistant"])
        asked = self._render(["user", "assistant", "user"], open_turn=True)
        self.opening = opened[1]
        """What stands between a user's text and the assistant's: "<|im_end|>...assistant\\n"."""
        between = answered[1]
        # Some templates open the assistant's turn otherwise than they write it down afterwards
        # (an empty stretch of reasoning in between); the answer then follows the opening as it is.
        same = between.startswith(self.opening)
        self.lead = between[len(self.opening) :] if same else ""
        """What stands between the opening and the assistant's first word: "" or " "."""
        query = plain(CORRECTNESS_QUERY.strip())
        self.query = f"{asked[2]}{query}{asked[3]}"
        """The correctness query as the user's next turn, up to the opening of the reply."""
        first = re.search(r"\ufdd0(.+?)\ufdd1", asked[2])
        self.end_of_turn: str | None = first.group(1) if first else None

    def frame(self, turns: Turns) -> Frame:
        """The conversation after the earlier turns, ready for a question."""
        roles = [role for _ in turns for role in ("user", "assistant")]
        contents = [plain(text.strip()) for turn in turns for text in turn]
        parts = self._render([*roles, "user"], open_turn=True)
        text = "".join(p + c for p, c in zip(parts, contents, strict=False))
        before = f"{NO_BOS}{text}{parts[-2]}"
        prefix = ""
        if turns:
            closed = self._render(roles)
            prefix = NO_BOS + "".join(p + c for p, c in zip(closed, [*contents, ""], strict=True))
            # A template may write the last of several turns differently: nothing is shared then.
            prefix = prefix if before.startswith(prefix) else ""
        return Frame(prefix, before[len(prefix) :], parts[-1])

    def _render(self, roles: Sequence[str], *, open_turn: bool = False) -> list[str]:
        """What the template writes around the contents of these turns: one part more than turns."""
        from jinja2 import TemplateError

        slots = [f"{_SLOT}{i}{_SLOT}" for i in range(len(roles))]
        messages = [{"role": r, "content": s} for r, s in zip(roles, slots, strict=True)]
        try:
            text = self._tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=open_turn, **_ARGUMENTS
            )
        except (TemplateError, ValueError, TypeError, KeyError) as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(
                f"model {self._name!r}: its chat template can't be used ({first[:160]}); "
                "use --chat off"
            ) from error
        parts = re.split("|".join(slots), text)
        if len(parts) != len(roles) + 1:
            raise ModelError(
                f"model {self._name!r}: its chat template does not write each turn down once; "
                "use --chat off"
            )
        return [self._special.sub(lambda found: marked(found.group()), p) for p in parts]


class Template(Protocol):
    """What writes a conversation: `Chat` with a tokenizer, `served.Conversation` for a server."""

    @property
    def lead(self) -> str: ...

    @property
    def query(self) -> str: ...

    def frame(self, turns: Turns) -> Frame: ...


@dataclass(frozen=True, slots=True)
class Prompting:
    """Whether a model is asked through its chat template, and why."""

    chat: Template | None
    reason: str

    @property
    def note(self) -> str:
        """For `run.json` and the report."""
        how = "its chat template" if self.chat else "plain text"
        return f"asked in {how}: {self.reason}"


def choose(chat: Chat | None, name: str, *, embedded: bool, mode: str) -> Prompting:
    """ "auto" takes the template of a chat model: one that has a template and is no known base.

    The embedded models are asked in plain text, in which they learned the correctness query. No
    template is ever guessed from a name. Raises ModelError for "on" without a template.
    """
    if mode not in CHAT_MODES:
        raise UnknownName("chat mode", mode, CHAT_MODES)
    if mode == "off":
        return Prompting(None, "--chat off")
    if chat is None:
        if mode == "on":
            raise ModelError(
                f"--chat on: the tokenizer of model {name!r} has no chat template; use --chat off"
            )
        return Prompting(None, "its tokenizer has no chat template")
    if mode == "on":
        return Prompting(chat, "--chat on")
    if embedded:
        return Prompting(None, "embedded models learned the correctness query so")
    known = find_known(name)
    if known is not None and known.kind == "base":
        return Prompting(None, f"{known.hub_id} is a base model")
    return Prompting(chat, "its tokenizer has one")
