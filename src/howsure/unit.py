"""One model in one format: its questions, in blocks, and the keys of all that is made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from howsure import graded, methods
from howsure.answers import MAX_TOKENS
from howsure.api import is_server, parse
from howsure.judges.names import MATCH, label, local_model
from howsure.lm import LoadOptions, Place, Want, embedded_names, loading
from howsure.lm.merging import find_adapter
from howsure.lm.names import fill_in, find_known
from howsure.lm.published import find_query_adapter
from howsure.plan import Plan, Questions
from howsure.shards import Shard, key_of
from howsure.spec import TRAIN_SIZE, RunSpec
from howsure.types import Format, GradedAnswer, Question, Split

BLOCK = 1024
"""Questions at most that are answered, or predicted, as one shard: minutes on a large model."""

_READING = (
    *("errors.py", "types.py", "prompts.py", "asking.py", "answers.py", "api.py", "heap.py"),
    "lm",
)
GRADING = (*_READING, "grading.py", "judges")
_ESTIMATING = (*_READING, "manifest.py", "strict_json.py", "methods")
"""The sources that decide a stage's result: other code has other keys."""

_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "numpy")

_BY_CONTENT = {
    *("output", "models", "questions", "train_questions", "data_dir", "methods", "subjects"),
    *("formats", "shots", "limit", "train_size", "calibrate", "seed", "device", "dtype"),
    *("settings", "choose_by", "load", "chat", "shuffle_shots", "long_prompts"),
    *("query_adapter", "graded_answers", "grader", "trainers"),
}
"""Settings that are in the keys as what they lead to (weights, questions, examples, method specs),
or that a stage doesn't see. Any other one, also one that is yet to be invented, is in every key."""


@dataclass(frozen=True, slots=True)
class Block:
    """Some of a split's questions: those from `start` up to `stop`."""

    split: Split
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Graded:
    """A block that has been answered and graded."""

    block: Block
    answers: Shard
    grades: Shard
    readings: tuple[Shard, ...] = ()
    """What was read along with the answers, one for each of `Unit.wants`."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is asked of one model in one format."""

    name: str
    """The model's name in all tables."""
    model: str
    """Where it is loaded from: an embedded name, a folder, or a Hub id."""
    format: Format
    spec: RunSpec
    plan: Plan
    identity: Mapping[str, Any]
    """What its weights, tokenizer and arithmetic are: see `identity_of`."""
    released: graded.Source | None = None
    """Training answers that are read instead of asked for."""
    grader: Mapping[str, Any] = field(default_factory=lambda: {"name": MATCH})
    """Who grades free answers: its `name`, and what it is where it is a local model."""
    size: int = 0
    """Bytes of its weights; 0 for a model on a server."""

    @property
    def graded_by(self) -> str:
        """The name of who grades free answers, as each grade holds it."""
        return str(self.grader["name"])

    def questions(self, block: Block) -> Questions:
        return self._all(block.split)[block.start : block.stop]

    def examples(self, block: Block) -> Mapping[str, Questions]:
        """The few-shot examples of the block's subjects. Training sets of their own have none."""
        if block.split == "training" and self.spec.train_questions:
            return {}
        there = {q.subject for q in self.questions(block)}
        return {s: shown for s, shown in self.plan.examples.items() if s in there}

    def blocks(self, split: Split) -> list[Block]:
        return [Block(split, *ends) for ends in blocks(self._all(split))]

    def recorded(self, block: Block) -> tuple[GradedAnswer, ...] | None:
        """The block's answers where they are released ones; None where they have to be asked."""
        if block.split != "training" or self.released is None:
            return None
        return graded.load(self.released, self.name).graded[block.start : block.stop]

    def method_spec(self, method: str) -> methods.Spec:
        """The method's settings for this model and format. Raises UnknownName."""
        settings = self.spec.method_settings(method, self.model, self.format)
        return methods.spec_from(method, settings)

    def trainers(self, method: str) -> int:
        """How many processes train its estimator together."""
        together = method in methods.BY_TEAMS and method in self.spec.trained
        return self.spec.trainers if together else 1

    def wants(self, block: Block) -> tuple[Want, ...]:
        """What the methods will ask of the bare model about the block's answers.

        It is read along with them; of answers that are released ones it is read when it is needed.
        """
        if self.recorded(block) is not None:
            return ()
        every = [w for m in self.spec.methods for w in self.wanted_by(m, block.split)]
        return tuple(dict.fromkeys(every))

    def wanted_by(self, method: str, split: Split) -> tuple[Want, ...]:
        """The same of one method and a whole split."""
        unused = split == "validation" and self.spec.calibrate == "none"
        if unused and method not in methods.TRAINED:
            return ()
        by_letter = self.format == "choice" and self.plan.choose_by == "letter"
        return methods.wants(self.method_spec(method), split, by_letter=by_letter)

    def _all(self, split: Split) -> Questions:
        if split == "training" and self.released is not None:
            return graded.load(self.released, self.name).questions
        plan = self.plan
        return {"training": plan.train, "validation": plan.valid, "test": plan.test}[split]

    # keys ---------------------------------------------------------------------------------------

    def answers_key(self, block: Block) -> str:
        """References are not in it: the model doesn't see those of the questions it is asked."""
        recorded = self.recorded(block)
        if recorded is not None:
            rows = [[g.answer.prompt, g.answer.text, self.format] for g in recorded]
            return key_of("answers", self._base(_READING) | {"released": rows})
        asked = [[q.id, q.subject, q.text, list(q.choices)] for q in self.questions(block)]
        shown = {s: [_seen(q) for q in e] for s, e in self.examples(block).items()}
        content = self._base(_READING) | {"questions": asked, "examples": shown}
        content |= {"format": self.format, "max_tokens": MAX_TOKENS}
        content |= {"asking": asdict(self.spec.asking), "kind": self._kind()}
        content |= {"choose_by": self.plan.choose_by if self.format == "choice" else None}
        return key_of("answers", content)

    def readings_key(self, answers: Shard, want: Want) -> str:
        settings = {k: v.name if isinstance(v, Place) else v for k, v in asdict(want).items()}
        content = {"answers": answers.digest, "want": [type(want).__name__, settings]}
        return key_of("readings", self._base(_READING) | content)

    def grades_key(self, block: Block, answers: Shard) -> str:
        right: list[Any] = [[q.id, q.reference, list(q.choices)] for q in self.questions(block)]
        right += [g.is_correct for g in self.recorded(block) or ()]
        content: dict[str, Any] = {
            "code": code(GRADING),
            "answers": answers.digest,
            "references": right,
        }
        content |= {"grader": dict(self.grader) if self.format == "open" else None}
        return key_of("grades", content | {"options": self._options()})

    def estimator_key(self, method: str, train: Sequence[Graded], valid: Sequence[Graded]) -> str:
        """A method that trains nothing has no answers in its key."""
        settings = asdict(self.method_spec(method))
        adapter = settings.pop("query_adapter", None)
        if adapter is not None:
            found = find_query_adapter(adapter, self.model)
            settings |= {"query_adapter": [found.fingerprint(), found.temperature]}
        content = self._base(_ESTIMATING) | {"method": method, "settings": settings}
        if method in self.spec.trained:
            content |= {"seed": self.spec.seed}
            content |= {"train": _digests(train), "valid": _digests(valid)}
        if self.trainers(method) > 1:
            content |= {"trainers": self.trainers(method)}
        return key_of("estimators", content)

    def predictions_key(self, estimator: Shard, answers: Shard) -> str:
        content = {"estimator": estimator.digest, "answers": answers.digest}
        return key_of("predictions", self._base(_ESTIMATING) | content)

    def _kind(self) -> str | None:
        """What the model's name says of it: whether "auto" takes its chat template hangs on it."""
        if self.name in embedded_names():
            return "embedded"
        known = find_known(self.name)
        return known.kind if known else None

    def _base(self, sources: tuple[str, ...]) -> dict[str, Any]:
        return {"model": dict(self.identity), "code": code(sources), "options": self._options()}

    def _options(self) -> dict[str, Any]:
        return {k: v for k, v in self.spec.to_json().items() if k not in _BY_CONTENT}


def released_answers(spec: RunSpec, plan: Plan, model: str, format: Format) -> graded.Source | None:
    """The training answers that the spec wants to be read, found and checked; None: it wants none.

    Raises ModelError or QuestionError.
    """
    if spec.graded_answers is None:
        return None
    files = graded.find(fill_in(spec.graded_answers, model, format))
    most = spec.train_size or TRAIN_SIZE
    evaluated = [*plan.test, *plan.valid]
    return graded.choose(files, format, evaluated, most=most, seed=spec.seed)


def blocks(questions: Sequence[Question], most: int = BLOCK) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive blocks; they end with a subject where one ends in time."""
    start, end = 0, 0
    for i in range(1, len(questions) + 1):
        last = i == len(questions)
        if last or questions[i].subject != questions[i - 1].subject:
            end = i
        if last or i - start == most:
            stop = end if last or end - start > most // 2 else i
            yield start, stop
            start = stop


def identity_of(path: Path, device: str, dtype: str, options: LoadOptions) -> dict[str, Any]:
    """A checkpoint's contents and the arithmetic it will be computed in; no names, no paths.

    Beside the fingerprint there are all small files of the folder: chat template, special tokens,
    code of its own. `device` is "cpu" or "cuda". Raises ModelError for an adapter that is no
    adapter, UnknownName for a dtype.
    """
    small = {"*.json", "*.jinja", "*.txt", "*.model", "*.py"}
    files = sorted({f for pattern in small for f in path.glob(pattern) if f.is_file()})
    versions = {name: _version(name) for name in _LIBRARIES}
    adapter = find_adapter(options.adapter) if options.adapter else None
    return {
        "fingerprint": loading.fingerprint(path, adapter),
        "files": {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in files},
        "device": device,
        "dtype": loading.dtype_of(path, device, dtype),
        "quantize": options.quantize,
        "attention": options.attention,
        "device_map": options.device_map,
        "versions": versions,
    }


def model_identity(spec: RunSpec, model: str, device: str) -> dict[str, Any]:
    """What is known of a run's model: `identity_of` its checkpoint; of one on a server only its
    address and name."""
    if is_server(model):
        server = parse(model)
        return {"server": server.url, "name": server.name}
    path = loading.find_checkpoint(model, spec.load)
    return identity_of(path, device, spec.dtype, spec.load)


def grader_identity(spec: RunSpec, device: str) -> dict[str, Any]:
    """Who grades free answers: the name, and of a local model what `identity_of` says.

    Raises as `loading.find_checkpoint` does for a local model that there isn't.
    """
    model = local_model(spec.grader)
    if model is None:
        return {"name": label(spec.grader)}
    path = loading.find_checkpoint(model)
    return {"name": label(spec.grader)} | identity_of(path, device, spec.dtype, LoadOptions())


@cache
def code(sources: tuple[str, ...]) -> str:
    """SHA-256 (hex) over the package's source files of these names and folders."""
    root = Path(__file__).parent
    files = [f for s in sources for f in (root / s, *sorted((root / s).rglob("*.py")))]
    digest = hashlib.sha256()
    for file in (f for f in files if f.is_file()):
        digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _seen(example: Question) -> list[Any]:
    return [example.text, list(example.choices), example.reference]


def _digests(graded: Sequence[Graded]) -> list[list[str]]:
    return [[g.answers.digest, g.grades.digest] for g in graded]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
