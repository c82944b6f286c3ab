"""The methods: one file each, one union of frozen specs, one `fit`.

estimator = fit(Probe(), lm, train, valid, seed=0)
estimator.p_correct(answers)          # (n,), probabilities
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from howsure.errors import BundleError, ModelError, UnknownName, UsageError
from howsure.lm import Hidden, Options, Place, Want
from howsure.methods.team import SOLO, Team
from howsure.prompts import QUERY_OPTIONS
from howsure.types import Estimator, GradedAnswer, Split

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel
    from howsure.lm.seam import Model
    from howsure.methods.checkpoint import Checkpoint
    from howsure.methods.likelihood import Likelihood
    from howsure.methods.lora import Lora
    from howsure.methods.lora_prompt import LoraPrompt
    from howsure.methods.probe import Probe
    from howsure.methods.subject_prior import SubjectPrior
    from howsure.methods.zero_shot import ZeroShot

    Spec: TypeAlias = ZeroShot | Probe | Lora | LoraPrompt | Likelihood | SubjectPrior

METHODS = ("zero_shot", "probe", "lora", "lora_prompt", "likelihood", "subject_prior")
"""In display order: the four of the published picture, then the two plain baselines."""

BASELINES = ("likelihood", "subject_prior")

TRAINED = ("probe", "lora", "lora_prompt", "subject_prior")
"""Methods that need graded training answers."""

BY_TEAMS = ("lora", "lora_prompt")
"""Methods that several processes can train together."""

OF_PROBABILITIES = ("zero_shot", "likelihood")
"""Methods that need probabilities of options or answers, which not every server tells."""

OF_WEIGHTS = ("probe", "lora", "lora_prompt")
"""Methods that need hidden states or gradients, which a model on a server does not show."""


def default_spec(method: str) -> Spec:
    """The published setting of a method. Raises UnknownName."""
    from howsure.methods.likelihood import Likelihood
    from howsure.methods.lora import Lora
    from howsure.methods.lora_prompt import LoraPrompt
    from howsure.methods.probe import Probe
    from howsure.methods.subject_prior import SubjectPrior
    from howsure.methods.zero_shot import ZeroShot

    match method:
        case "zero_shot":
            return ZeroShot()
        case "probe":
            return Probe()
        case "lora":
            return Lora()
        case "lora_prompt":
            return LoraPrompt()
        case "likelihood":
            return Likelihood()
        case "subject_prior":
            return SubjectPrior()
    raise UnknownName("method", method, METHODS)


def spec_from(method: str, settings: Mapping[str, Any]) -> Spec:
    """The published setting with some fields changed, nested as in the spec.

    `spec_from("probe", {"schedule": {"steps": 500}})`. Raises UnknownName for an unknown field.
    """
    spec: Spec = _replaced(default_spec(method), settings, method)
    return spec


def _replaced(value: Any, settings: Mapping[str, Any], where: str) -> Any:
    known = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    optional = {f.name: "None" in str(f.type) for f in dataclasses.fields(value)}
    changes = {}
    for key, new in settings.items():
        if key not in known:
            raise UnknownName(f"setting of {where}", key, known)
        if dataclasses.is_dataclass(known[key]) and isinstance(new, Mapping):
            changes[key] = _replaced(known[key], new, f"{where}.{key}")
        elif not _fits(new, known[key], optional[key]):
            raise UsageError(f"{where}.{key} is {new!r:.60}; its default is {known[key]!r}")
        else:
            changes[key] = tuple(new) if isinstance(new, list) else new
    return dataclasses.replace(value, **changes)


def _fits(new: Any, default: Any, optional: bool) -> bool:
    """Whether a setting is of its default's kind."""
    if new is None:
        return optional
    match default:
        case bool():
            return isinstance(new, bool)
        case int():
            return isinstance(new, int) and not isinstance(new, bool)
        case float():
            return isinstance(new, int | float) and not isinstance(new, bool)
        case tuple():
            each = default[0] if default else None
            whole = isinstance(new, list | tuple)
            return whole and all(each is None or _fits(n, each, False) for n in new)
    return default is None or isinstance(new, type(default))


def wants(spec: Spec, split: Split, *, by_letter: bool) -> tuple[Want, ...]:
    """What the method will ask of the bare model about each answer of a split; `answers.answer`
    can read it along with the answer. `by_letter`: it is a letter of a multiple choice.
    """
    from howsure.methods import lora_prompt, probe, zero_shot

    match spec:
        case zero_shot.ZeroShot() if split != "training":
            return (Options(Place.QUERY, QUERY_OPTIONS),)
        case probe.Probe():
            return (Hidden(Place.ANSWER, spec.layer),)
        case lora_prompt.LoraPrompt(query_adapter=None) if split == "training" and by_letter:
            return (Hidden(Place.QUESTION),) if spec.divergence_weight else ()
    return ()


def fit(
    spec: Spec,
    lm: Model,
    train: Sequence[GradedAnswer],
    valid: Sequence[GradedAnswer],
    *,
    seed: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
    checkpoint: Checkpoint | None = None,
    team: Team = SOLO,
) -> Estimator:
    """An estimator fitted on graded answers of `lm`; `valid` only picks the step to keep.

    Methods that train nothing ignore the answers. A training saves its state in `checkpoint` now
    and then, and goes on from what it finds there. With a `team` its members train it together, if
    it is of BY_TEAMS; each gets the estimator. The model is left as it was found. Raises
    FitError when the answers don't allow it (none, or all of one class).
    """
    from howsure.methods import likelihood, lora, lora_prompt, probe, subject_prior, zero_shot
    from howsure.methods.training import check_present, check_trainable

    how: Any = {"seed": seed, "on_progress": on_progress, "checkpoint": checkpoint}
    match spec:
        case zero_shot.ZeroShot():
            return zero_shot.ZeroShotEstimator(lm, spec)
        case likelihood.Likelihood():
            return likelihood.LikelihoodEstimator(spec)
        case subject_prior.SubjectPrior():
            check_present(train, "training")
            return subject_prior.fit(spec, train)
        case probe.Probe():
            check_trainable(train, valid)
            return probe.fit(spec, _loaded(lm, spec), train, valid, **how)
        case lora.Lora():
            check_trainable(train, valid)
            return lora.fit(spec, _loaded(lm, spec), train, valid, team=team, **how)
        case lora_prompt.LoraPrompt(query_adapter=str()):
            return lora_prompt.released(spec, _loaded(lm, spec))
        case lora_prompt.LoraPrompt():
            check_trainable(train, valid)
            return lora_prompt.fit(spec, _loaded(lm, spec), train, valid, team=team, **how)
    raise UnknownName("method", str(spec), METHODS)


def _loaded(lm: Model, spec: Spec) -> LanguageModel:
    """The model, whose weights are here. Raises ModelError for one on a server."""
    from howsure.lm.model import LanguageModel

    if not isinstance(lm, LanguageModel):
        raise ModelError(
            f"{spec.name} needs hidden states or training, and model {lm.name!r} is on a server; "
            "load its weights here, or use zero_shot, likelihood and subject_prior"
        )
    return lm


def save(estimator: Estimator, lm: Model, directory: Path) -> None:
    """Write a bundle: estimator.json, tensors as safetensors, adapters as PEFT does."""
    from howsure.methods import (
        bundle,
        likelihood,
        lora,
        lora_prompt,
        probe,
        subject_prior,
        zero_shot,
    )

    state: dict[str, Any] = {}
    tensors = None
    match estimator:
        case zero_shot.ZeroShotEstimator() | likelihood.LikelihoodEstimator():
            pass
        case subject_prior.SubjectPriorEstimator():
            state = {"overall": estimator.overall, "by_subject": dict(estimator.by_subject)}
        case probe.ProbeEstimator():
            state, tensors = dataclasses.asdict(estimator.fitted), estimator.head.state_dict()
        case lora.LoraEstimator():
            state, tensors = dataclasses.asdict(estimator.fitted), estimator.head.state_dict()
            estimator.lm.adapters.save(estimator.adapter, directory)
        case lora_prompt.LoraPromptEstimator():
            state = dataclasses.asdict(estimator.fitted)
            state["temperature"] = estimator.temperature
            estimator.lm.adapters.save(estimator.adapter, directory)
        case _:
            raise BundleError(f"{type(estimator).__name__} is no estimator that can be saved")
    bundle.write(
        directory,
        method=estimator.spec.name,
        spec=dataclasses.asdict(estimator.spec),
        lm=lm,
        state=state,
        tensors=tensors,
    )


_OF_NO_BUNDLE = (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RuntimeError)
"""What reading a bundle raises whose values are not those that `save` wrote."""


def load(directory: Path, lm: Model) -> Estimator:
    """The estimator that `save` wrote. Raises BundleError: missing, broken, of another model."""
    from howsure.methods import (
        bundle,
        likelihood,
        lora,
        lora_prompt,
        probe,
        subject_prior,
        zero_shot,
    )

    about = bundle.read(directory, lm)
    try:
        spec, state = spec_from(about["method"], about["spec"]), about["state"]
        match spec:
            case zero_shot.ZeroShot():
                return zero_shot.ZeroShotEstimator(lm, spec)
            case likelihood.Likelihood():
                return likelihood.LikelihoodEstimator(spec)
            case subject_prior.SubjectPrior():
                by_subject = {str(k): bundle.share(v) for k, v in state["by_subject"].items()}
                return subject_prior.SubjectPriorEstimator(
                    spec, bundle.share(state["overall"]), by_subject
                )
            case probe.Probe():
                here = _loaded(lm, spec)
                head = bundle.head(directory, here, spec.widths)
                return probe.ProbeEstimator(here, spec, head, bundle.fitted(state))
            case lora.Lora():
                here = _loaded(lm, spec)
                head = bundle.head(directory, here, spec.widths)
                adapter = here.adapters.load(directory)
                return lora.LoraEstimator(here, spec, adapter, head, bundle.fitted(state))
            case lora_prompt.LoraPrompt():
                here = _loaded(lm, spec)
                adapter = here.adapters.load(directory)
                temperature = float(state.get("temperature", 1.0))
                return lora_prompt.LoraPromptEstimator(
                    here, spec, adapter, bundle.fitted(state), temperature
                )
    except BundleError:
        raise
    except (UsageError, *_OF_NO_BUNDLE) as error:
        lacking = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        first = next(iter(lacking.splitlines()), type(error).__name__)
        raise BundleError(
            f"estimator {str(directory)!r} is not valid: {first[:300]}; save it anew"
        ) from error
    raise BundleError(f"estimator {str(directory)!r} has the unknown method {about['method']!r}")


def release(estimator: Estimator) -> None:
    """Free the adapter that an estimator holds on its model; it can't predict afterwards."""
    from howsure.methods import lora, lora_prompt

    if isinstance(estimator, lora.LoraEstimator | lora_prompt.LoraPromptEstimator):
        estimator.lm.adapters.remove(estimator.adapter)
