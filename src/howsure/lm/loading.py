"""From a name to a checkpoint on disk, checked before anything is loaded; then to a model.

safetensors only: pickled weights can run code when they are read, so they are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from howsure import strict_json
from howsure.errors import ModelError, UnknownName
from howsure.lm import hub
from howsure.lm.names import config_of, find_known, known_models
from howsure.lm.options import LoadOptions
from howsure.lm.precision import attention, pick_device, pick_dtype, quantisation

__all__ = [
    "check_folder",
    "embedded_names",
    "find_checkpoint",
    "find_config",
    "find_local",
    "find_tokenizer",
    "fingerprint",
    "pick_device",
]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_DTYPE = re.compile(r"float(16|32|64)|bfloat16|float8_\w+|half|float|double")
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


def find_checkpoint(name: str, options: LoadOptions | None = None) -> Path:
    """The folder with the checkpoint: an embedded model, a local folder, or a Hub id's snapshot.

    A short name ("llama2:7b-chat") stands for its Hub id. Raises ModelError (a folder that is
    missing or unusable, a Hub that can't be reached, a revision of a folder) or UnknownName,
    before any network is asked wherever the name looks like a local path.
    """
    local = find_local(name, options)
    if local is not None:
        return local
    hub_id, revision = _on_hub(name, options)
    with_code = options is not None and name in options.trust_remote_code
    return hub.fetch(hub_id, revision, check_folder, with_code=with_code)


def find_config(name: str, options: LoadOptions | None = None) -> dict[str, Any]:
    """The config.json of a model without its weights: from its folder, our table, or the Hub.

    Raises ModelError or UnknownName as `find_checkpoint` does.
    """
    local = find_local(name, options)
    if local is not None:
        return _config(local)
    hub_id, revision = _on_hub(name, options)
    known = find_known(name)
    if known is not None and revision == known.revision:
        return config_of(name)
    return _config(hub.fetch_config(hub_id, revision))


def find_tokenizer(name: str, options: LoadOptions | None = None) -> Any:
    """The tokenizer of a model if it is on this machine (its folder, the Hub's cache), else None.

    Nothing is fetched, and no code of the model's own is run.
    """
    from transformers import AutoTokenizer

    local = find_local(name, options)
    where, revision = (str(local), None) if local else _on_hub(name, options)
    try:
        return AutoTokenizer.from_pretrained(
            where, revision=revision, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError):  # not here, or unusable: loading will say which
        return None


def _on_hub(name: str, options: LoadOptions | None) -> tuple[str, str | None]:
    """(Hub id, revision) of a name that is no local folder. Raises UnknownName."""
    known = find_known(name)
    if known is None and not _HUB_ID.fullmatch(name):
        names = (*embedded_names(), *known_models())
        raise UnknownName("model", name, names, "Or give a local folder, or a Hub id (owner/name).")
    revision = options.revision if options else None
    return known.hub_id if known else name, revision or (known.revision if known else None)


def find_local(name: str, options: LoadOptions | None = None) -> Path | None:
    """The folder of an embedded model or of a path; None when the name is no path.

    Raises ModelError for a folder that is missing or unusable, and for a revision of one.
    """
    local = _find_local(name)
    if local is not None and options is not None and options.revision is not None:
        raise ModelError(
            f"--revision {options.revision} has no effect on the local model {name!r}; leave it out"
        )
    return local


def _find_local(name: str) -> Path | None:
    """The folder of an embedded model or of a path; None when the name is no path."""
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
    return None


def check_folder(path: Path) -> Path:
    """The folder itself, if it holds a config and safetensors weights that are all there."""
    if not (path / "config.json").is_file():
        raise ModelError(f"model folder {str(path)!r} has no config.json; give a checkpoint folder")
    if weight_files(path):
        _stored_dtype(path)  # reads the config
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
    return sorted(
        p
        for p in path.glob("*.safetensors")
        if p.is_file() and not p.name.startswith(("adapter_", "consolidated"))
    )


def stored_bytes(model: str, options: LoadOptions | None = None) -> int:
    """Bytes of a checkpoint's weights on disk. Raises as `find_checkpoint` does."""
    checkpoint = find_checkpoint(model, options)
    return sum(p.stat().st_size for p in weight_files(checkpoint))


def fingerprint(path: Path, adapter: Path | None = None) -> str:
    """SHA-256 over what decides the output: weights, config, tokenizer, and the adapter's.

    No names and no paths go in.
    """
    names = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")
    files = [path / n for n in names if (path / n).is_file()] + weight_files(path)
    if adapter is not None:
        files += [adapter / n for n in ("adapter_config.json", "adapter_model.safetensors")]
    return digest(files)


def digest(files: Sequence[Path]) -> str:
    """SHA-256 (hex) over the contents of files, in their order."""
    whole = hashlib.sha256()
    for file in files:
        part = hashlib.sha256()
        with file.open("rb") as stream:
            for block in iter(lambda: stream.read(1 << 20), b""):
                part.update(block)
        whole.update(part.digest())
    return whole.hexdigest()


def load_checkpoint(
    path: Path, name: str, device: str, dtype: str, options: LoadOptions, *, stay: bool = False
) -> tuple[Any, Any]:
    """The transformers model (eval mode, no gradients) and tokenizer of a checkpoint folder.

    `device` is "cpu" or "cuda", `dtype` a name or "auto"; with `stay` the model is left in the
    machine's memory, whatever the device that it is for. Refuses what would give wrong numbers
    quietly: weights left at random values, a tokenizer with more entries than the model has rows.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as hf_logging

    trusted = name in options.trust_remote_code
    _refuse_remote_code(path, name, trusted)
    precision = pick_dtype(dtype, device, _stored_dtype(path))
    # Quantised weights can't be moved afterwards, so they are put where they belong.
    spread = options.device_map if options.device_map != "none" and not stay else None
    if spread is None and options.quantize != "none":
        spread = {"": device}  # type: ignore[assignment]
    hf_logging.disable_progress_bar()
    talk = hf_logging.get_verbosity()
    hf_logging.set_verbosity_error()
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=trusted)
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=precision,
            use_safetensors=True,
            trust_remote_code=trusted,
            output_loading_info=True,
            attn_implementation=attention(options.attention),
            quantization_config=quantisation(options.quantize, precision),
            device_map=spread,
        )
    except ModelError:
        raise
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
    _check_vocabulary(model, tokenizer, name)
    _check_pieces(path, tokenizer, name)
    if spread is None and not stay:
        model = model.to(device)
    return model.eval().requires_grad_(False), tokenizer


def _check_pieces(path: Path, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that transformers made from a SentencePiece file, and made wrongly.

    Without a tokenizer.json it orders the merges by id instead of by score (5.23): with Mistral's
    or LLaMA's file, runs of spaces then become other tokens than the model was trained on.
    """
    file = path / "tokenizer.model"
    if (path / "tokenizer.json").is_file() or not file.is_file():
        return
    from sentencepiece import SentencePieceProcessor

    try:
        pieces = SentencePieceProcessor(str(file))
    except (OSError, RuntimeError):  # another kind of file by that name
        return
    for text in ("Choices:\n  (a): one\n  (b): two", "a  b    c"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        if ids != pieces.encode(text):
            raise ModelError(
                f"model {name!r}: its tokenizer.model is read wrongly without a tokenizer.json "
                "(spaces become other tokens); put the published tokenizer.json into its folder"
            )


def _config(path: Path) -> dict[str, Any]:
    try:
        config = strict_json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{str(path / 'config.json')!r} is not JSON: {error}; copy it again"
        ) from error
    if not isinstance(config, dict):
        raise ModelError(f"{str(path / 'config.json')!r} is not a JSON object; copy it again")
    return config


def dtype_of(path: Path, device: str, dtype: str) -> str:
    """The name of the dtype in which the checkpoint is computed: "float32"."""
    return str(pick_dtype(dtype, device, _stored_dtype(path))).removeprefix("torch.")


def _stored_dtype(path: Path) -> str | None:
    config = _config(path)
    inner = config.get("text_config") or {}
    if not isinstance(inner, dict):
        raise ModelError(f"{str(path / 'config.json')!r}: text_config is no object; copy it again")
    stored = config.get("dtype") or config.get("torch_dtype") or inner.get("dtype")
    if not stored:
        return None
    name = str(stored).removeprefix("torch.")
    if not _DTYPE.fullmatch(name):
        raise ModelError(
            f"{str(path / 'config.json')!r}: its dtype is {name[:60]!r}, which is none of torch's "
            "floats; copy it again"
        )
    return name


def _refuse_remote_code(path: Path, name: str, trusted: bool) -> None:
    """A model that is made of its own code needs to be trusted by name."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config = _config(path)
    if trusted or "auto_map" not in config or config.get("model_type") in CONFIG_MAPPING:
        return
    raise ModelError(
        f"model {name!r} (type {config.get('model_type')!r}) needs Python code of its own, which "
        f"could do anything on this machine; read it, then pass --trust-remote-code {name}"
    )


def _check_vocabulary(model: Any, tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that gives ids which the model has no row for."""
    rows = model.get_input_embeddings().weight.shape[0]
    largest = max(tokenizer.get_vocab().values(), default=0)
    if largest >= rows:
        raise ModelError(
            f"model {name!r}: its tokenizer has ids up to {largest}, but the model only {rows} "
            "rows of embeddings; the tokenizer belongs to another model: put the right "
            "tokenizer.json beside the weights"
        )
