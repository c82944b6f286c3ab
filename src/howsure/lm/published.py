"""Released adapters that answer the correctness query: PEFT's layout, with fields of the authors'.

Kapoor et al. 2024 released one per model and format ("calibration-tuning/Llama-2-7b-hf-ct-oe"). The
bare model answers; the adapter is switched on for the correctness query alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from howsure.errors import ModelError
from howsure.lm import loading
from howsure.lm.merging import FILES, check_base, find_adapter, read_adapter

_TEMPERATURE = "temperature_model"


@dataclass(frozen=True, slots=True)
class QueryAdapter:
    """A released adapter, found and looked through."""

    path: Path
    temperature: float
    """By which the logits of the query's two options are divided; 1 unless it says otherwise."""

    def fingerprint(self) -> str:
        """SHA-256 (hex) over what decides its results; no names, no paths."""
        return loading.digest([self.path / name for name in FILES])


def find_query_adapter(name: str, model_name: str) -> QueryAdapter:
    """A folder or Hub id. Raises ModelError: missing, pickled, of another base, another query."""
    path = find_adapter(name)
    config, _ = read_adapter(path)
    check_base(config, path, model_name)
    query = config.get("query_format", "roman_choice")
    if query != "roman_choice":
        raise ModelError(
            f"adapter {name!r} answers a query of the format {query!r}; only 'roman_choice' "
            "((i): no, (ii): yes) is known here"
        )
    return QueryAdapter(path, _temperature(path) if config.get("use_temperature") else 1.0)


def _temperature(path: Path) -> float:
    """The adapter's own temperature, stored as its logarithm."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = path / f"{_TEMPERATURE}.safetensors"
    if not file.is_file():
        raise ModelError(
            f"adapter {str(path)!r} wants its own temperature (use_temperature) but has no "
            f"{file.name}; a pickled one is not read: convert it, or set use_temperature to false "
            "and calibrate here"
        )
    try:
        return math.exp(float(load_file(str(file))["log_temperature"]))
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise ModelError(f"{str(file)!r} can't be read: {error}") from error
