"""The one seam to a language model.

`passage` says what can be wanted of it, `model` answers, the other files are how.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from howsure.lm.loading import embedded_names
from howsure.lm.passage import AnswerTokens, Generation, Hidden, Options, Passage, Place, Want

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

__all__ = [
    "AnswerTokens",
    "Generation",
    "Hidden",
    "LanguageModel",
    "Options",
    "Passage",
    "Place",
    "Want",
    "embedded_names",
    "load",
]


def load(name_or_dir: str, *, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """An embedded model by name, a local checkpoint folder, or a Hub id.

    `device` is "auto", "cpu" or "cuda"; `dtype` "auto" (float32 on a CPU, bfloat16 on a GPU
    that has it), "float32" or "bfloat16". Raises ModelError or UnknownName with the remedy.
    """
    from howsure.lm import loading

    path = loading.find_checkpoint(name_or_dir)
    where = loading.pick_device(device)
    precision = loading.pick_dtype(dtype, where)

    from howsure.lm.model import LanguageModel

    model, tokenizer = loading.load_checkpoint(path, name_or_dir, where, precision)
    name = Path(name_or_dir).resolve().name if Path(name_or_dir).is_dir() else name_or_dir
    return LanguageModel(model, tokenizer, name=name, path=path)


def __getattr__(name: str) -> object:
    if name == "LanguageModel":
        from howsure.lm.model import LanguageModel

        return LanguageModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
