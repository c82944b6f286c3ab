"""What a run would cost, told before anything is loaded: `howsure run --dry-run`.

Parameters, adapter shapes and FLOPs are counted from the models' configs (`lm/sizes.py`), tokens on
the questions themselves (`lengths`); what is read how often is in `costs`. Memory and time are
estimates that say what they assume.
"""

from __future__ import annotations

from dataclasses import dataclass

from howsure import methods
from howsure.answers import MAX_TOKENS
from howsure.api import is_server
from howsure.errors import QuestionError
from howsure.estimate import costs, lengths
from howsure.estimate.costs import DECODING_SHARE, LAYER_SECONDS, SHARE, UnitCost
from howsure.estimate.served import ServedCost, of_served
from howsure.lm import embedded_names
from howsure.lm.devices import Device, known_devices, this_machine
from howsure.plan import Plan, prepare
from howsure.spec import RunSpec

__all__ = ["Estimate", "ServedCost", "UnitCost", "estimate"]


@dataclass(frozen=True)
class Estimate:
    """What a run would cost, and what the figures rest on."""

    units: tuple[UnitCost, ...]
    devices: tuple[Device, ...]
    """This machine first."""
    notes: tuple[str, ...]
    served: tuple[ServedCost, ...] = ()
    """Of models on servers."""


def estimate(spec: RunSpec) -> Estimate:
    """Opens the questions and builds the models without weights; nothing else is done.

    Raises what a run would raise before its work: unknown names, questions that can't be read.
    Where MMLU or its training sets can't be had here, published counts stand in, and a note says
    so.
    """
    for method in spec.methods:
        methods.spec_from(method, spec.settings.get(method, {}))
    notes: list[str] = []
    plan = _plan(spec, notes)
    formats = plan.formats if plan else spec.formats or ("choice",)
    every = [(name, format) for name in spec.models or embedded_names() for format in formats]
    units = tuple(costs.of_unit(spec, plan, *one) for one in every if not is_server(one[0]))
    served = tuple(of_served(spec, plan, *one) for one in every if is_server(one[0]))
    if served or not all(u.exact for u in units):
        notes.append("tokens are told from the texts' bytes for models whose tokenizer is not here")
    if spec.graded_answers:
        notes.append("released graded answers are counted as questions of the usual length")
    if not units:
        return Estimate((), (), (*notes, _LONGEST, _PLAIN), served)
    if spec.trainers > 1:
        notes.append(
            f"each adapter is trained on {spec.trainers} such devices at once, which is counted "
            "without what they have to tell each other; all else takes one of them"
        )
    devices = (this_machine(spec.device, spec.dtype), *known_devices())
    return Estimate(units, devices, (*notes, _LONGEST, _ASSUMED, _PLAIN), served)


_LONGEST = f"open-ended answers are counted with {MAX_TOKENS} tokens, their most"
_ASSUMED = (
    f"assumed: {SHARE:.0%} of a device's matmul rate while reading, {DECODING_SHARE:.0%} of its "
    f"bandwidth while writing answers, at least {1000 * LAYER_SECONDS:.1f} ms a layer and step; "
    "very small models are slower than that"
)
_PLAIN = "prompts are counted as plain text; a chat template adds some tokens to each"


def _plan(spec: RunSpec, notes: list[str]) -> Plan | None:
    try:
        return prepare(spec)
    except QuestionError as error:
        if spec.questions != "mmlu":
            raise
        first = str(error).split(" (")[0]
        notes.append(
            f"not all questions are at hand ({first}): counts of the published setting stand in, "
            f"{lengths.PUBLISHED_NOTE}; --data-dir names a folder with the questions"
        )
        return None
