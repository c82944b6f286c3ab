"""How far a run's grader agrees with people: measured before the run's own work."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from howsure.agreement import LabelledPair, Verdicts, agreement, read_pairs, verdicts
from howsure.api import Limits
from howsure.errors import UsageError
from howsure.judges.names import MATCH, open_judge
from howsure.shards import Shard, Shards, key_of
from howsure.spec import RunSpec
from howsure.stages import REPLIES
from howsure.types import Format
from howsure.unit import GRADING, code
from howsure.workers import Executor, Failure, Report

STAGE = "agreement"
_FILE = "verdicts.json"


def read_labels(path: Path, formats: Sequence[Format]) -> tuple[LabelledPair, ...]:
    """The labelled pairs. Raises UsageError where no free answers are graded, QuestionError."""
    if "open" not in formats:
        raise UsageError(
            f"--grader-check {path} has no effect: choices are graded exactly; leave it out, or "
            "ask with --format open"
        )
    return read_pairs(path)


@dataclass(frozen=True, slots=True)
class Asking:
    """The one job there is: the grader's verdicts on all pairs."""

    home: str


@dataclass(frozen=True, slots=True)
class GraderCheck:
    """Asks the grader. Any worker can do it."""

    spec: RunSpec
    pairs: tuple[LabelledPair, ...] = field(repr=False)
    store: Shards
    limits: Limits

    def __call__(self, job: Asking, report: Report) -> Verdicts:
        spec, judge = self.spec, None
        if spec.grader != MATCH:
            judge = open_judge(
                spec.grader,
                device=spec.device,
                dtype=spec.dtype,
                limits=self.limits,
                cache=self.store.root / REPLIES,
            )
        return verdicts(judge, self.pairs)


def check_grader(
    work: GraderCheck,
    grader: Mapping[str, Any],
    hire: Callable[[], Executor[Asking, Verdicts]],
) -> dict[str, Any] | Failure:
    """What `run.json` says of the grader, or why nothing can be said.

    `grader` is who it is (`unit.grader_identity`). Verdicts that are in the store are not asked
    for again.
    """
    pairs = [asdict(p) for p in work.pairs]
    key = key_of(
        STAGE, {"grader": dict(grader), "pairs": pairs, "code": code((*GRADING, "agreement.py"))}
    )
    shard = work.store.find(STAGE, key)
    if shard is None:
        begin = time.perf_counter()
        said = _ask(hire())
        if isinstance(said, Failure):
            return said
        text = json.dumps(said)
        shard = work.store.make(STAGE, key, lambda f: (f / _FILE).write_text(text), since=begin)
    return _card(work, str(grader["name"]), shard)


def _ask(executor: Executor[Asking, Verdicts]) -> Verdicts | Failure:
    try:
        while not executor.idle():  # actors of a cluster take their time to come
            executor.wait(lambda *_: None)
        executor.start(None, Asking(""))
        while True:
            for _, result in executor.wait(lambda *_: None):
                return result
    finally:
        executor.close()


def _card(work: GraderCheck, name: str, shard: Shard) -> dict[str, Any]:
    said: Verdicts = json.loads((work.store.open(shard) / _FILE).read_text())
    found = agreement(work.pairs, said, seed=work.spec.seed)
    return {"grader": name, "in_words": found.in_words(name), **found.to_json()}
