"""Models by short name: which Hub id, which config, base or chat. The table itself is data."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, cast

from howsure.api import is_server, parse
from howsure.errors import UnknownName

Kind = Literal["base", "chat"]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A row of `data/models.csv`."""

    name: str
    """The short name: "llama2:7b-chat"."""
    hub_id: str
    revision: str
    family: str
    kind: Kind
    config: str
    """Its entry in `data/configs.json`; models of one shape share one."""
    parameters: int
    """Weights, a tied head counted once, as the Hub states it for the checkpoint."""


def _text(file: str) -> str:
    return (resources.files("howsure") / "lm" / "data" / file).read_text(encoding="utf-8")


@cache
def known_models() -> dict[str, KnownModel]:
    """Short name → model, in the table's order: the six columns of the published picture first."""
    rows = csv.DictReader(_text("models.csv").splitlines())
    return {
        r["name"]: KnownModel(
            name=r["name"],
            hub_id=r["hub_id"],
            revision=r["revision"],
            family=r["family"],
            kind=cast(Kind, r["kind"]),
            config=r["config"],
            parameters=int(r["parameters"]),
        )
        for r in rows
    }


def find_known(name: str) -> KnownModel | None:
    """The model with this short name or Hub id; None when the table has none."""
    if name in known_models():
        return known_models()[name]
    return next((m for m in known_models().values() if m.hub_id.lower() == name.lower()), None)


@cache
def configs() -> dict[str, dict[str, Any]]:
    """Name → config.json of the full-size model, reduced to what decides shape and computation.

    Taken from the published checkpoints; that the numbers of weights agree to the last one with
    those that the Hub states is a test.
    """
    return cast(dict[str, dict[str, Any]], json.loads(_text("configs.json")))


def config_of(name: str) -> dict[str, Any]:
    """The config of a known model, by short name or Hub id. Raises UnknownName."""
    known = find_known(name)
    if known is None:
        raise UnknownName("model", name, known_models())
    return dict(configs()[known.config])


def fill_in(template: str, model: str, format: str) -> str:
    """A name in which "{model}" and "{format}" stand for a model and a format of a run.

    "{model}" is the last part of the model's Hub id or folder, "{format}" is "oe" or "choice" as
    the published adapters and data sets are called: "calibration-tuning/{model}-ct-{format}".
    """
    model = parse(model).name if is_server(model) else model
    known = find_known(model)
    last = (known.hub_id if known else model).rstrip("/").rsplit("/", 1)[-1]
    return template.replace("{model}", last).replace(
        "{format}", "oe" if format == "open" else format
    )
