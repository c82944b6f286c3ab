"""From a name to a checkpoint on disk, checked before anything is loaded.

safetensors only: pickled weights can run code when they are read, so they are refused.
"""

from __future__ import annotations

import hashlib
import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from howsure.errors import ModelError, UnknownName

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def _embedded_root() -> Path:
    return Path(str(resources.files("howsure"))) / "embedded"


def embedded_names() -> tuple[str, ...]:
    """Names of the models that ship with the package, in the order of the picture's columns."""
    order = (
        "tiny-llama-s",
        "tiny-llama-s-chat",
        "tiny-llama-l",
        "tiny-llama-l-chat",
        "tiny-mistral",
        "tiny-mistral-instruct",
    )
    return tuple(n for n in order if (_embedded_root() / n / "config.json").is_file())


def find_checkpoint(name: str) -> Path:
    """The folder with the checkpoint: an embedded model, a local folder, or a Hub id's snapshot.

    Raises ModelError (a folder that is missing or unusable, a Hub that can't be reached) or
    UnknownName, before any network is asked wherever the name looks like a local path.
    """
    if name in embedded_names():
        return _embedded_root() / name
    path = Path(name).expanduser()
    if path.is_dir():
        return check_folder(path)
    if path.is_file():
        raise ModelError(f"model {name!r} is a file; give the folder that holds its config.json")
    looks_local = name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name
    if looks_local or ("/" in name and Path(name.split("/")[0]).is_dir()):
        raise ModelError(f"model folder {name!r} does not exist; check the path")
    if not _HUB_ID.fullmatch(name):
        raise UnknownName(
            "model", name, embedded_names(), "Or give a local folder, or a Hub id (owner/name)."
        )
    return _from_hub(name)


def check_folder(path: Path) -> Path:
    """The folder itself, if it holds a config and safetensors weights that are all there."""
    if not (path / "config.json").is_file():
        raise ModelError(f"model folder {str(path)!r} has no config.json; give a checkpoint folder")
    if weight_files(path):
        return path
    pickled = sorted(p.name for p in path.iterdir() if p.suffix in _PICKLES)
    if pickled:
        raise ModelError(
            f"model folder {str(path)!r} has only pickled weights ({pickled[0]}), which can run "
            "code when read; convert them to safetensors first"
        )
    raise ModelError(f"model folder {str(path)!r} has no weights (*.safetensors)")


def weight_files(path: Path) -> list[Path]:
    """The checkpoint's safetensors files, sorted by name."""
    return sorted(p for p in path.glob("*.safetensors") if not p.name.startswith("adapter_"))


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    wanted = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]
    try:
        return check_folder(
            Path(snapshot_download(name, local_files_only=True, allow_patterns=wanted))
        )
    except (LocalEntryNotFoundError, ModelError):
        pass
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        raise ModelError(
            f"model {name!r} is not in the local Hub cache and HF_HUB_OFFLINE is set; "
            "give a local folder, or unset it"
        )
    try:
        return check_folder(Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=10)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"model {name!r} is no local folder and could not be had from the Hub "
            f"({reason[:160]}); check the name, the network, or give a local folder"
        ) from error


def fingerprint(path: Path) -> str:
    """SHA-256 over what decides the output: weights, config, tokenizer; no names, no paths."""
    digest = hashlib.sha256()
    names = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    files = [path / n for n in names if (path / n).is_file()] + weight_files(path)
    for file in files:
        part = hashlib.sha256()
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                part.update(block)
        digest.update(part.digest())
    return digest.hexdigest()


def pick_device(device: str) -> str:
    """ "auto" → "cuda" where there is one, else "cpu"."""
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError("--device cuda: no CUDA device is visible here; use --device cpu or auto")
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise UnknownName("device", device, ("auto", "cpu", "cuda"))
    return device


def pick_dtype(dtype: str, device: str) -> Any:
    """The torch dtype to compute in.

    "auto" is float32 on a CPU whatever the checkpoint stores, because a CPU without bfloat16
    units computes it some 200 times slower; on a GPU it is bfloat16 where the GPU has it.
    """
    import torch

    if dtype == "auto":
        fast = device == "cuda" and torch.cuda.is_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if dtype not in known:
        raise UnknownName("dtype", dtype, ("auto", *known))
    return known[dtype]


def load_checkpoint(path: Path, name: str, device: str, dtype: Any) -> tuple[Any, Any]:
    """The transformers model (eval mode, no gradients) and tokenizer of a checkpoint folder.

    Refuses a checkpoint whose files leave weights at random values.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    hf_logging.disable_progress_bar()
    talk = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"model {name!r} can't be loaded: {reason[:300]}") from error
    finally:
        hf_logging.set_verbosity(talk)
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"model {name!r}: its files lack {len(missing)} weights (first: {missing[0]}); "
            "they would be random, so it is refused"
        )
    return model.to(device).eval().requires_grad_(False), tokenizer
