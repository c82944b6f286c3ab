"""Evaluations by the real inspect, offline: a model that gives the replies it was made with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.model import (
    Logprob,
    Logprobs,
    ModelAPI,
    ModelOutput,
    TopLogprob,
    get_model,
    modelapi,
)
from inspect_ai.scorer import Score, accuracy, mean, scorer
from inspect_ai.solver import generate, multiple_choice


@modelapi(name="replay")
class Replay(ModelAPI):
    def __init__(self, model_name, base_url=None, api_key=None, config=None, replies=(), **_):
        super().__init__(model_name)
        self.replies = iter(replies)

    async def generate(self, input, tools, tool_choice, config):
        reply = next(self.replies)
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def count_tokens(self, *_, **__):
        return 1


def letter(chosen: str, logprobs: dict[str, float], before: str = "ANSWER:") -> ModelOutput:
    """A reply that ends in a letter, with the log-probabilities of the letters listed there."""
    output = ModelOutput.from_content("replay", f"{before} {chosen}")
    top = [TopLogprob(token=f" {k}", logprob=v) for k, v in logprobs.items()]
    output.choices[0].logprobs = Logprobs(
        content=[
            Logprob(token=before, logprob=-0.1),
            Logprob(token=f" {chosen}", logprob=logprobs.get(chosen, -9.0), top_logprobs=top),
        ]
    )
    return output


def log_softmax(values: Sequence[float]) -> list[float]:
    total = math.log(sum(map(math.exp, values)))
    return [v - total for v in values]


@scorer(metrics=[accuracy()])
def verbal(values: Sequence[Any], key: str = "confidence"):
    """Grades and confidences in turn, as a scorer records them that has read a stated confidence.

    `values` are (value, confidence) by the number at the end of the sample's id.
    """

    async def score(state, target):
        value, confidence = values[int(str(state.sample_id)[1:])]
        metadata = {} if confidence is None else {key: confidence}
        return Score(value=value, answer=state.output.completion, metadata=metadata)

    return score


@scorer(metrics={"right": [accuracy()], "confidence": [mean()]})
def both(values: Sequence[tuple[str, float]]):
    """As `verbal`, with both as values of one score."""

    async def score(state, target):
        value, confidence = values[int(str(state.sample_id)[1:])]
        return Score(value={"right": value, "confidence": confidence})

    return score


def run(
    folder: Path,
    replies: Sequence[Any],
    scorers: Any,
    *,
    name: str = "quiz",
    model: str = "m",
    choices: int = 4,
    targets: str = "ABCD",
    epochs: int = 1,
    format: str = "eval",
    metadata: dict[str, Any] | None = None,
    shuffle: int | None = None,
    fails: bool = False,
) -> Path:
    """One evaluation of as many samples as there are replies for; gives its log."""
    texts = [f"text {k}" for k in range(choices)] or None
    samples = [
        Sample(
            id=f"q{i}",
            input=f"Question {i}?",
            choices=texts,
            target=targets[i % len(targets)],
            metadata=metadata,
        )
        for i in range(len(replies) // epochs)
    ]
    if shuffle is not None:
        from inspect_ai.dataset import MemoryDataset

        samples = MemoryDataset(samples)
        samples.shuffle_choices(seed=shuffle)
    before = set(folder.rglob("*.eval")) | set(folder.rglob("*.json"))
    evaluate(
        Task(
            dataset=samples,
            solver=multiple_choice() if choices else generate(),
            scorer=scorers,
            name=name,
        ),
        model=get_model(f"replay/{model}", replies=replies, memoize=False),
        epochs=epochs,
        log_dir=str(folder),
        log_format=format,
        max_samples=1,
        display="none",
        fail_on_error=fails,
    )
    (made,) = (set(folder.rglob("*.eval")) | set(folder.rglob("*.json"))) - before
    return made
