"""The one seam to a language model.

`passage` says what can be wanted of it, `model` answers, the other files are how.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from howsure.lm.loading import embedded_names
from howsure.lm.names import KnownModel, known_models
from howsure.lm.options import LoadOptions
from howsure.lm.passage import AnswerTokens, Generation, Hidden, Next, Options, Passage, Place, Want

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

__all__ = [
    "AnswerTokens",
    "Generation",
    "Hidden",
    "KnownModel",
    "LanguageModel",
    "LoadOptions",
    "Next",
    "Options",
    "Passage",
    "Place",
    "Want",
    "embedded_names",
    "known_models",
    "load",
]


def load(
    name_or_dir: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    options: LoadOptions | None = None,
    divided: bool = False,
) -> LanguageModel:
    """An embedded model by name, a known one by short name, a local checkpoint folder, or a Hub id.

    `device` is "auto", "cpu" or "cuda"; `dtype` "auto" (float32 on a CPU, bfloat16 on a GPU
    that has it), "float32", "bfloat16" or "float16"; `options` say how the checkpoint is read.
    With `divided` the members of a process group have a part of it each, and must all call this.
    Raises ModelError or UnknownName with the remedy.
    """
    from howsure.lm import loading

    options = options or LoadOptions()
    path = loading.find_checkpoint(name_or_dir, options)
    where = loading.pick_device(device)

    from howsure.lm.merging import find_adapter, merge
    from howsure.lm.model import LanguageModel

    adapter = find_adapter(options.adapter) if options.adapter else None

    def read() -> tuple[Any, Any]:
        model, tokenizer = loading.load_checkpoint(
            path, name_or_dir, where, dtype, options, stay=divided
        )
        return merge(model, adapter, name_or_dir) if adapter else model, tokenizer

    if divided:
        from howsure.lm.sharding import in_turn

        model, tokenizer = in_turn(read, where)
    else:
        model, tokenizer = read()
    name = Path(name_or_dir).resolve().name if Path(name_or_dir).is_dir() else name_or_dir
    return LanguageModel(
        model, tokenizer, name=name, path=path, adapter=adapter, engine=options.engine
    )


def __getattr__(name: str) -> object:
    if name == "LanguageModel":
        from howsure.lm.model import LanguageModel

        return LanguageModel
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
