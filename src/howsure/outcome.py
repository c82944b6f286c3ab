"""What a unit's shards come to: calibrated predictions, estimators, and what to say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure import records
from howsure.calibrate import fit_calibrator, to_json
from howsure.errors import FitError
from howsure.prompts import CORRECTNESS_QUERY, MARKED, plain
from howsure.records import Verdict
from howsure.shards import Shard, Shards
from howsure.stages import TABLE, usable
from howsure.types import SPLITS, Answer, Format, GradedAnswer, Predictions, Split
from howsure.unit import Block, Graded, Unit
from howsure.workers import Failure

NONFINITE = "nonfinite_confidence"

SERVED = "address and name as given; a server shows no weights to tell what answered"

ENGINE = ("engine", "engine_note")
"""Which path read the model's prompts, and why not the fast one."""


@dataclass
class Held:
    """A unit's shards as far as they are made, and what became of the rest."""

    unit: Unit
    store: Shards
    calibrate: str
    """What the validation answers allow of the calibration asked for."""
    graded: dict[Block, Graded] = field(default_factory=dict)
    fitted: dict[str, Shard] = field(default_factory=dict)
    """Method → its estimator."""
    said: dict[tuple[str, Block], Shard] = field(default_factory=dict)
    """What each method said of each block."""
    failures: list[Failure] = field(default_factory=list)
    lost: dict[str, Failure] = field(default_factory=dict)
    """Method → why it could not be carried through."""
    loading: float = 0.0
    """Seconds spent on loading the model, by all workers."""

    def usable(self, split: Split) -> tuple[list[Verdict], dict[str, str]]:
        """The verdicts on a split's answers that can be used; the ids of the others, with the
        reason."""
        verdicts: list[Verdict] = []
        excluded: dict[str, str] = {}
        for block in self.unit.blocks(split):
            mine, others = self._verdicts(block)
            verdicts += mine
            excluded |= others
        return verdicts, excluded

    def an_answer(self, split: Split) -> Answer | None:
        """The first of a split's answers that can be used."""
        blocks = (usable(self.unit, self.graded[b], self.store) for b in self.unit.blocks(split))
        return next((answers[0].answer for answers in blocks if answers), None)

    def probabilities(self, method: str, split: Split) -> NDArray[np.float64]:
        """What a method said of a split's usable answers, in their order; NaN where nothing."""
        parts = []
        for block in self.unit.blocks(split):
            ids = [v.question_id for v in self._verdicts(block)[0]]
            table = self.store.open(self.said[method, block]) / TABLE
            parts.append(records.read_probabilities(table, ids))
        return np.concatenate(parts)

    def _verdicts(self, block: Block) -> tuple[list[Verdict], dict[str, str]]:
        graded = self.graded[block]
        answers, grades = (self.store.open(shard) for shard in (graded.answers, graded.grades))
        return records.read_verdicts(answers / TABLE, grades / TABLE)

    def seconds(self) -> dict[str, float]:
        """By stage, what its shards took when they were made."""
        spent: defaultdict[str, float] = defaultdict(float, load=self.loading)
        for block, graded in self.graded.items():
            spent[f"answer {block.split}"] += graded.answers.seconds + graded.grades.seconds
        for method, shard in self.fitted.items():
            spent[f"fit {method}"] += shard.seconds
        for (method, _), shard in self.said.items():
            spent[f"predict {method}"] += shard.seconds
        for method in self.fitted:
            for block, graded in self.graded.items():
                wanted = self.unit.wanted_by(method, block.split)
                stage = f"fit {method}" if block.split == "training" else f"predict {method}"
                held = zip(self.unit.wants(block), graded.readings, strict=True)
                spent[stage] += sum(shard.seconds for want, shard in held if want in wanted)
        return {stage: round(seconds, 3) for stage, seconds in spent.items()}

    def tokens(self) -> dict[str, int]:
        """By stage, the tokens that the model read when the shards were made, where that is known.

        What was read along with the answers, for the methods, counts with the answers. Of fitting
        nothing is known.
        """
        shards = [(f"answer {b.split}", graded.answers) for b, graded in self.graded.items()]
        shards += [(f"predict {method}", shard) for (method, _), shard in self.said.items()]
        read: dict[str, list[Any]] = {}
        for stage, shard in shards:
            read.setdefault(stage, []).append(shard.about.get("tokens"))
        return {stage: sum(counts) for stage, counts in read.items() if None not in counts}

    def failed(self, what: str, error: Failure) -> Failure:
        """The failure, with the unit and what of it in front."""
        where = f"{self.unit.name} ({self.unit.format}), {what}: "
        return Failure(where + error.message, error.exit_code, error.trace)


@dataclass
class UnitResult:
    """What became of a unit."""

    model: str
    format: Format
    predictions: list[Predictions] = field(default_factory=list)
    estimators: dict[str, tuple[Shard, Mapping[str, Any] | None]] = field(default_factory=dict)
    """Method → its bundle, and its calibrator as JSON."""
    card: dict[str, Any] = field(default_factory=dict)
    """For `run.json`: model, counts, accuracies, specs, calibrators, exclusions, a prompt."""
    seconds: dict[str, float] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    """What of the unit could not be done; the rest was."""


def result(held: Held) -> UnitResult:
    """A unit's result once no job of it is left. Raises StoreError for a damaged shard."""
    unit = held.unit
    out = UnitResult(unit.name, unit.format, seconds=held.seconds(), failures=list(held.failures))
    out.tokens |= held.tokens()
    splits = {s: held.usable(s) for s in SPLITS}
    model = next(iter(held.graded.values())).answers.about
    out.card |= {"fingerprint": unit.identity.get("fingerprint")}
    if "server" in unit.identity:
        out.card |= {"server": unit.identity["server"], "identity": SERVED}
    out.card |= {k: model[k] for k in ("parameters", "device", "dtype", "prompting", *ENGINE)}
    if (shown := held.an_answer("test")) is not None:
        out.card["prompt"] = as_read(shown)
    out.card["answers"] = {s: _counted(verdicts) for s, (verdicts, _) in splits.items()}
    if unit.released is not None:
        out.card["released"] = unit.released.card()
    out.card["excluded"] = {k: v for _, others in splits.values() for k, v in others.items()}
    for method in unit.spec.methods:
        if method in held.lost:
            out.failures.append(held.lost[method])
        elif method in held.fitted:
            try:
                _add(out, held, method, splits["test"][0], splits["validation"][0])
            except FitError as error:
                out.failures.append(held.failed(method, Failure.of(error)))
    return out


def _add(
    out: UnitResult,
    held: Held,
    method: str,
    test: Sequence[Verdict],
    valid: Sequence[Verdict],
) -> None:
    """A method's uncalibrated predictions, then the calibrated ones."""
    unit = held.unit
    spec = unit.method_spec(method)
    card: dict[str, Any] = {"settings": asdict(spec)}
    p, calibrator = held.probabilities(method, "test"), None
    known = ~np.isnan(p)
    test, without = _parted(test, known)
    if without:
        card["excluded"] = {v.question_id: NONFINITE for v in without}
    if not test:
        raise FitError(f"none of its {len(p)} confidences is a number")
    made = [_predictions(unit.name, method, test, p[known])]
    if held.calibrate != "none":
        q = held.probabilities(method, "validation")
        usable = ~np.isnan(q)
        fitted = fit_calibrator(held.calibrate, q[usable], is_correct(valid)[usable])
        made.append(_predictions(unit.name, method, test, fitted(p[known]), held.calibrate))
        calibrator = card["calibrator"] = to_json(fitted)
    out.predictions += made
    out.card.setdefault("methods", {})[method] = card
    out.estimators[method] = (held.fitted[method], calibrator)


def _parted(
    verdicts: Sequence[Verdict], known: NDArray[np.bool_]
) -> tuple[list[Verdict], list[Verdict]]:
    pairs = list(zip(verdicts, known, strict=True))
    return [v for v, k in pairs if k], [v for v, k in pairs if not k]


def predictions(
    model: str,
    method: str,
    graded: Sequence[GradedAnswer],
    p_correct: NDArray[np.float64],
    calibration: str = "none",
) -> Predictions:
    """What a method said, (n,) in [0, 1], of n graded answers of one model in one format."""
    return _predictions(model, method, [Verdict.of(g) for g in graded], p_correct, calibration)


def _predictions(
    model: str,
    method: str,
    verdicts: Sequence[Verdict],
    p_correct: NDArray[np.float64],
    calibration: str = "none",
) -> Predictions:
    formats = {v.format for v in verdicts}
    if len(formats) != 1:
        raise FitError(f"answers in {len(formats)} formats; give those of one format")
    return Predictions(
        model=model,
        method=method,
        format=formats.pop(),
        calibration=calibration,
        ids=tuple(v.question_id for v in verdicts),
        subjects=tuple(v.subject for v in verdicts),
        p_correct=np.asarray(p_correct, dtype=np.float64),
        is_correct=is_correct(verdicts),
        answers=tuple(v.text for v in verdicts),
    )


def as_read(answer: Answer) -> str:
    """All that the model read of a question: prompt, its own answer, the correctness query."""
    query = CORRECTNESS_QUERY if answer.query is None else answer.query
    text = f"{answer.prompt}{answer.lead}{plain(answer.text)}{query}"
    return MARKED.sub(lambda token: token[1], text)


def is_correct(verdicts: Sequence[Verdict]) -> NDArray[np.bool_]:
    return np.array([v.is_correct for v in verdicts], dtype=np.bool_)


def _counted(verdicts: Sequence[Verdict]) -> Mapping[str, Any]:
    n = len(verdicts)
    short = sum(v.dropped_shots > 0 for v in verdicts)
    return {
        "answers": n,
        "accuracy": float(is_correct(verdicts).mean()) if n else None,
        **({"with_fewer_shots": short} if short else {}),
    }
