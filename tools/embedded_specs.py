"""The six embedded models as data: architecture, what they learn from, for how long.

They mirror the columns of the published picture: Llama small and large, Mistral; each as a base
model, and as a chat model that goes on from the base with chat turns and more self-grading.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTEXT = 8192
VOCABULARY = 1536


@dataclass(frozen=True)
class Mixture:
    """Shares of the kinds of training documents; the rest are plain questions with answers."""

    grading: float
    """Question, a right or wrong answer, the correctness query, "i" or "ii"."""
    chat: float
    """The question as a user's turn, the answer as the assistant's."""


@dataclass(frozen=True)
class EmbeddedModel:
    name: str
    architecture: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    mixture: Mixture
    steps: int
    batch_tokens: int
    muon_lr: float
    adam_lr: float
    seed: int
    sliding_window: int | None = None
    start_from: str | None = None
    """The base model that this one continues."""

    @property
    def is_chat(self) -> bool:
        return self.mixture.chat > 0


_BASE = Mixture(grading=0.30, chat=0.0)
_CHAT = Mixture(grading=0.40, chat=0.25)
_SMALL = {"hidden": 80, "layers": 4, "heads": 4, "kv_heads": 4, "intermediate": 240}
_LARGE = {"hidden": 112, "layers": 4, "heads": 4, "kv_heads": 4, "intermediate": 320}
_MISTRAL = {
    "hidden": 96, "layers": 4, "heads": 3, "kv_heads": 1, "intermediate": 288,
    "sliding_window": 128,
}  # fmt: skip
_SCHEDULE = {"steps": 12000, "batch_tokens": 1536, "muon_lr": 5e-3, "adam_lr": 3e-3}
_TUNING = {"steps": 2500, "batch_tokens": 1536, "muon_lr": 2e-3, "adam_lr": 1e-3}

MODELS = (
    EmbeddedModel("tiny-llama-s", "llama", **_SMALL, **_SCHEDULE, mixture=_BASE, seed=11),
    EmbeddedModel("tiny-llama-s-chat", "llama", **_SMALL, **_TUNING, mixture=_CHAT, seed=12,
                  start_from="tiny-llama-s"),
    EmbeddedModel("tiny-llama-l", "llama", **_LARGE, **_SCHEDULE, mixture=_BASE, seed=21),
    EmbeddedModel("tiny-llama-l-chat", "llama", **_LARGE, **_TUNING, mixture=_CHAT, seed=22,
                  start_from="tiny-llama-l"),
    EmbeddedModel("tiny-mistral", "mistral", **(_MISTRAL | _SCHEDULE | {"steps": 9000}),
                  mixture=_BASE, seed=31),
    EmbeddedModel("tiny-mistral-instruct", "mistral", **_MISTRAL, **_TUNING, mixture=_CHAT,
                  seed=32, start_from="tiny-mistral"),
)  # fmt: skip
