"""Saved estimators: a folder each, safetensors and JSON, tied to the model they were fitted on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from howsure import manifest, strict_json
from howsure.errors import BundleError

if TYPE_CHECKING:
    from torch import Tensor

    from howsure.lm.model import LanguageModel
    from howsure.lm.seam import Model
    from howsure.methods.head import Head
    from howsure.methods.training import Fitted

VERSION = 1


def write(
    directory: Path,
    *,
    method: str,
    spec: Mapping[str, Any],
    lm: Model,
    state: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor] | None = None,
) -> None:
    """estimator.json, head.safetensors when there are tensors, and a manifest of the folder."""
    directory.mkdir(parents=True, exist_ok=True)
    if tensors:
        from safetensors.torch import save_file

        plain = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        save_file(plain, str(directory / "head.safetensors"))
    about = {
        "version": VERSION,
        "method": method,
        "spec": dict(spec),
        "model": lm.name,
        "model_fingerprint": lm.fingerprint,
        "state": dict(state or {}),
    }
    (directory / "estimator.json").write_text(json.dumps(about, indent=2) + "\n")
    files = sorted(p for p in directory.iterdir() if p.name != manifest.NAME)
    manifest.seal(directory / manifest.NAME, files)


def read(directory: Path, lm: Model) -> dict[str, Any]:
    """What `write` wrote, every file compared with the manifest.

    Raises BundleError: missing, changed since, broken, or fitted on another model.
    """
    path = directory / "estimator.json"
    if not path.is_file():
        raise BundleError(f"{str(directory)!r} holds no estimator (no estimator.json)")
    try:
        manifest.check(directory / manifest.NAME)
    except manifest.Changed as error:
        where = f"estimator {str(directory)!r}"
        raise BundleError(f"{where} is damaged: {error}; save it anew") from None
    try:
        about = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = strict_json.reason(error) if isinstance(error, ValueError) else error.strerror
        raise BundleError(f"{str(path)!r} is not JSON: {reason}; save it anew") from error
    wanted = ("version", "method", "spec", "model", "model_fingerprint", "state")
    missing = [k for k in wanted if not isinstance(about, dict) or k not in about]
    if missing:
        raise BundleError(f"{str(path)!r} lacks {missing[0]!r}; it is no estimator of howsure")
    if about["version"] != VERSION:
        raise BundleError(
            f"{str(path)!r} has version {about['version']!r}; this howsure reads {VERSION}"
        )
    theirs = about["model_fingerprint"]
    if theirs and lm.fingerprint and theirs != lm.fingerprint:
        raise BundleError(
            f"estimator {str(directory)!r} was fitted on {about['model']!r}, whose files differ "
            f"from those of {lm.name!r}; load that model, or fit anew"
        )
    return dict(about)


def head(directory: Path, lm: LanguageModel, widths: Sequence[int]) -> Head:
    """The bundle's classifier. Raises BundleError when it can't be read or has other shapes."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from howsure.methods.head import Head

    path = directory / "head.safetensors"
    made = Head(lm.hidden_size, widths)
    try:
        made.load_state_dict(load_file(str(path)))
    except (OSError, SafetensorError, RuntimeError) as error:
        first = str(error).strip().splitlines()[0]
        raise BundleError(f"{str(path)!r} can't be read: {first}") from error
    return made.eval().requires_grad_(False)


def share(value: Any) -> float:
    """A share in [0, 1]. Raises ValueError."""
    number = float(value)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{value!r:.60} is no share in [0, 1]")
    return number


def fitted(state: Mapping[str, Any]) -> Fitted:
    """How the training went, as it was written."""
    from howsure.methods.training import Fitted

    curve = tuple((int(step), float(loss)) for step, loss in state["curve"])
    return Fitted(int(state["best_step"]), curve)
