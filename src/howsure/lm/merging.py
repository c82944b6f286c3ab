"""A published PEFT LoRA adapter on top of a checkpoint: checked against it, merged into it.

Merged, the model is a plain one again: the methods' own adapters go on top of it, and the bare
model that they come back to is the adapted one.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from howsure import strict_json
from howsure.errors import ModelError
from howsure.lm import hub
from howsure.lm.names import find_known

_LORA = ("LORA", "CALIBRATED_LORA")
"""The second is what the authors of the published setting call theirs; its tensors are the same."""

_SIZES = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((.*?)\) from checkpoint, "
    r"the shape in current model is torch\.Size\((.*?)\)"
)

FILES = ("adapter_config.json", "adapter_model.safetensors")


def find_adapter(name: str) -> Path:
    """The folder of an adapter: a local one, or a Hub id's snapshot. Raises ModelError."""
    path = Path(name).expanduser()
    if path.is_dir():
        return check_adapter(path)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(f"adapter folder {name!r} does not exist; check the path")
    return hub.fetch(name, None, check_adapter, what="adapter")


def check_adapter(path: Path) -> Path:
    """The folder itself, if it holds a PEFT adapter in safetensors."""
    if not (path / FILES[0]).is_file():
        raise ModelError(f"adapter {str(path)!r} has no {FILES[0]}; give a PEFT adapter's folder")
    if (path / FILES[1]).is_file():
        return path
    if (path / "adapter_model.bin").is_file():
        raise ModelError(
            f"adapter {str(path)!r} has only pickled weights (adapter_model.bin), which can run "
            "code when read; convert them to safetensors first"
        )
    raise ModelError(f"adapter {str(path)!r} has no weights ({FILES[1]})")


def read_adapter(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The adapter's configuration and tensors. Raises ModelError unless it is a readable LoRA."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        config = strict_json.loads((path / FILES[0]).read_text(encoding="utf-8"))
        tensors = load_file(str(path / FILES[1]))
    except (OSError, ValueError, SafetensorError) as error:
        first = str(error).strip().splitlines()[0]
        raise ModelError(f"adapter {str(path)!r} can't be read: {first}") from error
    if not isinstance(config, dict) or config.get("peft_type") not in _LORA:
        kind = config.get("peft_type") if isinstance(config, dict) else None
        raise ModelError(f"adapter {str(path)!r} is of the type {kind!r}; only LORA is supported")
    return config, tensors


def lora_config(config: dict[str, Any]) -> Any:
    """PEFT's configuration from the fields it knows; published adapters carry others beside."""
    import dataclasses

    from peft import LoraConfig, TaskType

    known = {f.name for f in dataclasses.fields(LoraConfig) if f.init}
    # Which base it names has been checked; PEFT would warn where the folder is called otherwise.
    ours = {
        "task_type": TaskType.CAUSAL_LM,
        "inference_mode": True,
        "base_model_name_or_path": None,
    }
    return LoraConfig(**{**{k: v for k, v in config.items() if k in known}, **ours})


def check_base(config: dict[str, Any], path: Path, model_name: str) -> None:
    """Refuse an adapter that says it was made for another model, as far as names tell.

    A local folder may be called anything, so only a model asked for by Hub id or short name can
    contradict the base that the adapter names; otherwise its tensors have to fit.
    """
    base = str(config.get("base_model_name_or_path") or "")
    known = find_known(model_name)
    mine = known.hub_id if known else model_name
    if Path(model_name).is_dir() or "/" not in mine or base.count("/") != 1:
        return
    if base.split("/")[-1].lower() != mine.split("/")[-1].lower():
        raise ModelError(
            f"adapter {str(path)!r} was made for {base!r}, not for {mine!r}; give --model {base}"
        )


def read_for(path: Path, model_name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `read_adapter` gives, of an adapter that may be merged into this model, as far as it
    says. Raises ModelError."""
    config, tensors = read_adapter(path)
    if "query_format" in config:
        raise ModelError(
            f"adapter {str(path)!r} was made to answer the correctness query, not questions; give "
            "it with --query-adapter instead of --adapter"
        )
    check_base(config, path, model_name)
    return config, tensors


def merge(model: Any, path: Path, model_name: str) -> Any:
    """The model with the adapter in its weights, frozen. Raises ModelError where it doesn't fit."""
    from peft import get_peft_model, set_peft_model_state_dict

    config, tensors = read_for(path, model_name)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
            adapted = get_peft_model(model, lora_config(config))
        result = set_peft_model_state_dict(adapted, drop_embeddings(model, tensors))
    except (ValueError, RuntimeError, TypeError) as error:
        raise ModelError(
            f"adapter {str(path)!r} does not fit model {model_name!r}: {_reason(error)}; it "
            f"belongs to {_base(config)}"
        ) from error
    lost = [k for k in result.missing_keys if "lora_" in k]
    if lost or result.unexpected_keys:
        raise ModelError(
            f"adapter {str(path)!r} does not fit model {model_name!r}: {len(lost)} weights are "
            f"missing and {len(result.unexpected_keys)} unknown; it belongs to {_base(config)}"
        )
    return adapted.merge_and_unload().eval().requires_grad_(False)


def _base(config: dict[str, Any]) -> str:
    base = config.get("base_model_name_or_path")
    return repr(base) if base else "another model"


def _reason(error: Exception) -> str:
    """The first thing that is wrong: torch lists all tensors below a heading."""
    lines = [line.strip() for line in str(error).strip().splitlines()]
    size = _SIZES.search(" ".join(lines))
    if size:
        return f"{size[1]} has the shape {size[2]}, the model's is {size[3]}"
    return (lines[0] if lines else type(error).__name__)[:200]


def drop_embeddings(model: Any, tensors: dict[str, Any]) -> dict[str, Any]:
    """The adapter's own tensors, without copies of the model's embeddings and head.

    PEFT stores these beside the adapter when the vocabulary was resized, for instance for a padding
    token. They are left out when they are the model's own rows; anything else raises ModelError.
    """
    own: dict[str, Any] = {}
    for key, tensor in tensors.items():
        if "lora_" in key:
            own[key] = tensor
            continue
        head = "lm_head" in key
        layer = model.get_output_embeddings() if head else model.get_input_embeddings()
        rows = layer.weight
        shared = min(len(rows), len(tensor))
        same = tensor.dim() == 2 and tensor.shape[1] == rows.shape[1]
        if not same or not _alike(tensor[:shared], rows[:shared]):
            raise ModelError(
                f"the adapter changes {key!r}, not only LoRA weights; adapters with embeddings "
                "of their own are not supported"
            )
    return own


def _alike(a: Any, b: Any) -> bool:
    """Equal up to rounding to 16 bits; one row may differ, that of a padding token."""
    near = ((a.float() - b.float().to(a.device)).abs() <= 1e-2 * (1 + b.float().abs())).all(-1)
    return int((~near).sum()) <= 1
