"""What a run is to do: `RunSpec`, and the named recipes that fill one in."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from howsure.api import is_server, parse
from howsure.asking import LONG_PROMPTS, Asking, LongPrompts
from howsure.calibrate import CALIBRATIONS
from howsure.errors import UnknownName, UsageError
from howsure.judges import names as graders
from howsure.lm import LoadOptions, embedded_names
from howsure.lm.chat import CHAT_MODES, ChatMode
from howsure.lm.names import fill_in
from howsure.lm.options import DEVICES, DTYPES
from howsure.methods import BY_TEAMS, METHODS, OF_WEIGHTS, TRAINED
from howsure.questions import QUICKSTART
from howsure.types import ChooseBy, Format

FORMATS: tuple[Format, ...] = get_args(Format)
CHOOSE_BY: tuple[ChooseBy, ...] = get_args(ChooseBy)

LOAD_OPTIONS = tuple(f.name for f in fields(LoadOptions))
"""Their names: options of the command line, and keys of a recipe's table `load`."""

TRAIN_SIZE = 20_000
"""Training questions at most, all sets together; the published setting."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """All that decides a run's results. The defaults: all embedded models, the quickstart quiz.

    Raises UnknownName or UsageError, with one line, for what makes no sense by itself.
    """

    output: Path
    models: tuple[str, ...] = ()
    """Embedded names, local folders, Hub ids or servers; none means all embedded models."""
    questions: str = QUICKSTART
    """The set that is evaluated: a name or a path."""
    train_questions: tuple[str, ...] = ()
    """Sets to train estimators on; none means the train split of `questions`."""
    data_dir: Path | None = None
    methods: tuple[str, ...] = METHODS
    subjects: tuple[str, ...] = ()
    """Only these subjects of `questions`; none means all."""
    formats: tuple[Format, ...] = ()
    """None means choice if all evaluated questions have choices, else open."""
    choose_by: ChooseBy | None = None
    """None means by letter."""
    shots: int | None = None
    """Few-shot examples before each evaluated question; None means 5 where there is a dev split."""
    shuffle_shots: bool = False
    """Each question has its examples in an order of its own, as in the published code."""
    long_prompts: LongPrompts = "refuse"
    """With a prompt longer than the model's context: refuse, or leave out examples."""
    chat: ChatMode = "auto"
    """Whether chat models are asked through their chat template; the published setting is "off"."""
    limit: int | None = None
    """Evaluated questions per subject at most, and as many for validation; None means all."""
    train_size: int | None = None
    """Training questions at most; None means TRAIN_SIZE."""
    calibrate: str = "temperature"
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    load: LoadOptions = field(default_factory=LoadOptions)
    """How the checkpoints are read: revision, adapter, quantisation, attention, ..."""
    query_adapter: str | None = None
    """A released adapter that `lora_prompt` uses instead of training one: a folder or Hub id, in
    which "{model}" and "{format}" stand for those of the run."""
    graded_answers: str | None = None
    """Graded answers of the models that someone released, to train on instead of asking training
    questions: a folder or Hub id, likewise."""
    grader: str = graders.MATCH
    """Who says whether a free answer is right: "match", "judge:MODEL" or "openai:NAME@URL"."""
    trainers: int = 1
    """Processes that train one LoRA estimator together, each on a GPU of its own where there are
    some. The last bits of what they come to hang on how many they are."""
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Method → what differs from its published setting, as `methods.spec_from` takes it."""

    def __post_init__(self) -> None:
        _known("method", self.methods, METHODS)
        _known("format", self.formats, FORMATS)
        _known("way to choose", () if self.choose_by is None else (self.choose_by,), CHOOSE_BY)
        _known("calibration", (self.calibrate,), CALIBRATIONS)
        _known("chat mode", (self.chat,), CHAT_MODES)
        _known("way with long prompts", (self.long_prompts,), LONG_PROMPTS)
        _known("device", (self.device,), DEVICES)
        _known("dtype", (self.dtype,), DTYPES)
        _known("method", tuple(self.settings), METHODS)
        if not self.methods:
            raise UsageError("no method; name at least one with --method")
        for option, names in (
            ("--model", self.models),
            ("--train-questions", self.train_questions),
            ("--method", self.methods),
            ("--subject", self.subjects),
        ):
            twice = next((n for n in names if names.count(n) > 1), None)
            if twice is not None:
                raise UsageError(f"{option} {twice} is given twice; give it once")
        for option, number, least in (
            ("--shots", self.shots, 0),
            ("--limit", self.limit, 1),
            ("--train-size", self.train_size, 1),
            ("--seed", self.seed, 0),
            ("--trainers", self.trainers, 1),
        ):
            if number is not None and number < least:
                raise UsageError(f"{option} {number}: it must be at least {least}")
        self.load.check(self.models)
        self._check_served()
        self._check_trainers()
        graders.check(self.grader)
        self._check_released()
        self.check_grader("open" in self.formats or not self.formats)
        if self.choose_by and self.formats and "choice" not in self.formats:
            raise UsageError(
                f"--choose-by {self.choose_by} has no effect with --format open; leave it out, "
                "or ask with --format choice"
            )

    def _check_served(self) -> None:
        """Raises UsageError for what a model on a server can't do."""
        served = [m for m in self.models if is_server(m)]
        for model in served:
            parse(model)
        lost = [m for m in self.methods if m in OF_WEIGHTS]
        if served and lost:
            left = " ".join(f"--method {m}" for m in METHODS if m not in OF_WEIGHTS)
            raise UsageError(
                f"{served[0]}: a model on a server shows no hidden states and can't be trained, "
                f"which {', '.join(lost)} need; ask for {left}, or load its weights here"
            )
        if served and self.load != LoadOptions():
            raise UsageError(
                f"{served[0]}: options of loading (--revision, --adapter, --quantize, ...) have no "
                "effect on a model on a server; leave them out"
            )
        if served and self.choose_by == "text":
            raise UsageError(
                f"--choose-by text: {served[0]} is on a server, which does not tell the "
                "probabilities of given texts; use --choose-by letter"
            )

    def _check_trainers(self) -> None:
        """Raises UsageError where several trainers have nothing to train, or can't."""
        if self.trainers > 1 and not any(m in BY_TEAMS for m in self.trained):
            raise UsageError(
                f"--trainers {self.trainers} has no effect: neither lora nor lora_prompt is "
                "trained; leave it out"
            )
        if self.trainers > 1 and "none" not in (self.load.device_map, self.load.quantize):
            raise UsageError(
                f"--trainers {self.trainers} with --device-map {self.load.device_map} divides each "
                f"layer's weights, which those of --quantize {self.load.quantize} can't be; leave "
                "one of them out"
            )

    def _check_released(self) -> None:
        """Raises UsageError where a released adapter or data set could have no effect."""
        if self.query_adapter and "lora_prompt" not in self.methods:
            raise UsageError(
                f"--query-adapter {self.query_adapter} has no effect without --method lora_prompt"
            )
        if self.graded_answers and self.train_questions:
            raise UsageError(
                f"--graded-answers {self.graded_answers} takes the place of --train-questions; "
                "give one of them"
            )
        if self.graded_answers and not self.trained:
            raise UsageError(
                f"--graded-answers {self.graded_answers} has no effect: no method is trained"
            )

    def check_grader(self, is_open: bool) -> None:
        """Raises UsageError where a grader would have nothing to grade."""
        if self.grader != graders.MATCH and not is_open:
            raise UsageError(
                f"--grader {self.grader} has no effect: choices are graded exactly; leave it out, "
                "or ask with --format open"
            )

    @property
    def trained(self) -> tuple[str, ...]:
        """The methods that need training answers."""
        ready = ("lora_prompt",) if self.query_adapter else ()
        return tuple(m for m in self.methods if m in TRAINED and m not in ready)

    def method_settings(self, method: str, model: str, format: Format) -> Mapping[str, Any]:
        """What differs from the method's published setting, for one model in one format."""
        settings = self.settings.get(method, {})
        if method == "lora_prompt" and self.query_adapter:
            name = fill_in(self.query_adapter, model, format)
            settings = {**settings, "query_adapter": name}
        return settings

    @property
    def asking(self) -> Asking:
        """How questions become prompts."""
        seed = self.seed if self.shuffle_shots else None
        return Asking(self.chat, seed, self.long_prompts)

    def to_json(self) -> dict[str, Any]:
        """The spec as JSON values, for `run.json`."""
        return {k: _plain(v) for k, v in asdict(self).items()}


def build(recipe: str | None, changes: Mapping[str, Any]) -> RunSpec:
    """The recipe with some fields changed, as the command line does it.

    Without a recipe it is `quickstart` when its questions are asked (they are the default). The
    quickstart's settings of the methods are made for the embedded models: where all models are
    such, they are taken whatever the questions; where one isn't, only if the recipe is named.
    """
    base: dict[str, Any] = {}
    if recipe is not None:
        base = load_recipe(recipe)
    else:
        quick = load_recipe(QUICKSTART)
        settings = quick.pop("settings")
        if changes.get("questions", QUICKSTART) == QUICKSTART:
            base = quick
        if set(changes.get("models", ())) <= set(embedded_names()):
            base["settings"] = settings
    options = {k: changes[k] for k in LOAD_OPTIONS if k in changes}
    changes = {k: v for k, v in changes.items() if k not in LOAD_OPTIONS}
    if options:
        base["load"] = replace(base.get("load", LoadOptions()), **options)
    if changes.get("graded_answers"):
        base.pop("train_questions", None)
    served = any(is_server(m) for m in changes.get("models", ()))
    if served or "choice" not in changes.get("formats", ("choice",)):
        base.pop("choose_by", None)
    questions = str(changes.get("questions", base.get("questions", QUICKSTART)))
    base.setdefault("output", Path("runs") / (Path(questions).name.split(".")[0] or "run"))
    # At once: an option such as --revision goes with models that only the other one names.
    return RunSpec(**(base | dict(changes)))


def recipe_names() -> tuple[str, ...]:
    """The recipes that ship with the package."""
    folder = resources.files("howsure") / "recipes"
    return tuple(sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml")))


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe's fields of RunSpec. Raises UnknownName for the recipe, or for one of its fields."""
    if name not in recipe_names():
        raise UnknownName("recipe", name, recipe_names())
    text = (resources.files("howsure") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")
    return read_recipe(text, name)


def read_recipe(text: str, name: str) -> dict[str, Any]:
    """`load_recipe` of the TOML text itself."""
    try:
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"recipe {name!r} is not TOML: {error}") from error
    known = [f.name for f in fields(RunSpec)]
    for key in given:
        if key not in known:
            raise UnknownName(f"setting of recipe {name!r}", key, known)
    _check_kinds(given, RunSpec, f"recipe {name!r}: ")
    made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    if "load" in made:
        made["load"] = _load_options(made["load"], name)
    return made | {k: Path(str(made[k])) for k in ("output", "data_dir") if k in made}


def _load_options(given: Mapping[str, Any], recipe: str) -> LoadOptions:
    for key in given:
        if key not in LOAD_OPTIONS:
            raise UnknownName(f"setting of recipe {recipe!r}", f"load.{key}", LOAD_OPTIONS)
    _check_kinds(given, LoadOptions, f"recipe {recipe!r}: load.")
    made: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return LoadOptions(**made)


def _check_kinds(given: Mapping[str, Any], into: Any, where: str) -> None:
    """Raises UsageError for a value of another kind than its field's."""
    for field_ in fields(into):
        if field_.name not in given:
            continue
        value, kind = given[field_.name], str(field_.type)
        if kind.startswith("tuple"):
            wanted = "a list of texts"
            fits = isinstance(value, list) and all(isinstance(v, str) for v in value)
        elif kind.startswith(("Mapping", "LoadOptions")):
            wanted, fits = "a table", isinstance(value, Mapping)
            if field_.name == "settings" and fits:
                wanted = "a table of tables"
                fits = all(isinstance(v, Mapping) for v in value.values())
        elif kind == "bool":
            wanted, fits = "true or false", isinstance(value, bool)
        elif kind.startswith("int"):
            wanted, fits = "a whole number", type(value) is int
        else:
            wanted, fits = "a text", isinstance(value, str)
        if not fits:
            raise UsageError(f"{where}{field_.name} is {str(value)[:60]!r}; it must be {wanted}")


def _known(kind: str, names: tuple[str, ...], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise UnknownName(kind, name, known)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value) if isinstance(value, Path) else value
