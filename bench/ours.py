"""What is timed, in howsure's own terms; each work starts with nothing known, but for trainings:
they have what a run reads along with the answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from howsure import methods
from howsure.answers import answer, grade
from howsure.asking import Asking
from howsure.lm import Hidden, LoadOptions, Options, Passage, Place, Want, load
from howsure.lm.adapters import LoraSettings
from howsure.lm.readings import Readings
from howsure.methods.lora import Lora
from howsure.methods.lora_prompt import LoraPrompt
from howsure.methods.training import Schedule
from howsure.prompts import QUERY_OPTIONS
from howsure.types import Answer, GradedAnswer, Question

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

STEPS, BATCH = 6, 4
"""Of the trainings that are timed; the batch is the published one."""

_FEATURES = (Options(Place.QUERY, QUERY_OPTIONS), Hidden(Place.ANSWER))
"""What the zero-shot classifier and the probe want of the bare model."""


@dataclass
class Ours:
    """One model on one reading path, with its questions."""

    lm: LanguageModel
    questions: Sequence[Question]
    examples: Mapping[str, Sequence[Question]]
    along: Readings = field(default_factory=Readings)
    """What was read along with the answers to train on."""

    @staticmethod
    def open(
        folder: Path,
        engine: str,
        questions: Sequence[Question],
        examples: Mapping[str, Sequence[Question]],
    ) -> Ours:
        lm = load(str(folder), device="cpu", dtype="float32", options=LoadOptions(engine=engine))
        return Ours(lm, questions, examples)

    def answers(self, seed: int | None = None, *, also: Sequence[Want] = ()) -> list[Answer]:
        """By letter; with `also` the bare model's readings beside them."""
        self.lm.readings = Readings()
        return answer(
            self.lm,
            self.questions,
            format="choice",
            choose_by="letter",
            asking=Asking("off", seed, "refuse"),
            examples=self.examples,
            also=also,
        )

    def bare(self, seed: int | None = None) -> list[np.ndarray]:
        """Answers, zero-shot and probe features: all that the bare model is asked for."""
        return self._features(self.answers(seed, also=_FEATURES))

    def zero_shot(self, seed: int) -> list[np.ndarray]:
        """Answers and zero-shot, each question's examples in an order of its own."""
        made = self.answers(seed, also=_FEATURES)
        return self.lm.read([Passage.of(a) for a in made], _FEATURES[:1])

    def all_four(self) -> list[np.ndarray]:
        """Besides, what LoRA and LoRA + Prompt read, each with an adapter of its own."""
        made = self.answers(also=_FEATURES)
        passages = [Passage.of(a) for a in made]
        out = self._features(made)
        for want in (Hidden(Place.ANSWER), Options(Place.QUERY, QUERY_OPTIONS)):
            adapter = self.lm.adapters.add(LoraSettings(), seed=0)
            out += self.lm.read(passages, [want], adapter=adapter)
            self.lm.adapters.remove(adapter)
        return out

    def graded(self) -> list[GradedAnswer]:
        """Every other answer is called right: what is timed does not hang on it. What a run reads
        along with answers to train on is known afterwards."""
        along = methods.wants(LoraPrompt(), "training", by_letter=True)
        made = grade(self.questions, self.answers(also=along))
        self.along = self.lm.readings
        return [replace(g, is_correct=bool(i % 2)) for i, g in enumerate(made)]

    def train(self, method: str, graded: Sequence[GradedAnswer]) -> None:
        """STEPS steps of a LoRA method, validated once on two answers."""
        self.lm.readings = self.along
        schedule = Schedule(steps=STEPS, batch_size=BATCH, evaluations=1)
        kind = {"lora": Lora, "lora_prompt": LoraPrompt}[method]
        spec = kind(schedule=schedule, valid_size=2)
        methods.release(methods.fit(spec, self.lm, graded[: STEPS * BATCH], graded[:2], seed=0))

    def _features(self, made: Sequence[Answer]) -> list[np.ndarray]:
        return self.lm.read([Passage.of(a) for a in made], _FEATURES)


def tokens_needed(ours: Ours) -> int:
    """Of `bare` with fixed examples: each subject's common beginning once, then the rest."""
    made = ours.answers()
    needed = 0
    for subject in {a.subject for a in made}:
        mine = [Passage.of(a) for a in made if a.subject == subject]
        ids = ours.lm.tokens.encode([p.upto(Place.QUERY) for p in mine])
        shared = _shared(ids) if len(ids) > 1 else 0
        needed += shared + sum(len(i) - shared for i in ids)
    return needed


def _shared(ids: Sequence[Sequence[int]]) -> int:
    first, last = min(ids), max(ids)
    return next((n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), 0)
