"""Manifests: the SHA-256 of files, and of the list itself, so that no change goes unseen."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from howsure import strict_json

NAME = "manifest.json"


class Changed(Exception):
    """A file, or the manifest itself, is not as it was written; the message says which."""


def seal(path: Path, files: Iterable[Path], about: Mapping[str, Any] | None = None) -> None:
    """Writes to `path` the SHA-256 of files beside it, what `about` adds, and its own SHA-256.

    All of it has reached the disk afterwards. Raises OSError.
    """
    content: dict[str, Any] = {**(about or {}), "files": {f.name: _written(f) for f in files}}
    content["sha256"] = sha256(canonical(content))
    path.write_bytes(json.dumps(content, indent=1).encode())
    _written(path)


def check(path: Path) -> dict[str, Any]:
    """What the manifest at `path` says, once it and its files have been compared.

    Raises Changed. Nothing outside its folder is opened, whatever it names or a link leads to.
    """
    _refuse_link(path)
    try:
        content = strict_json.loads(path.read_text(encoding="utf-8"))
        stated, files = content.pop("sha256"), content["files"]
        whole = stated == sha256(canonical(content))
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise Changed(f"{path.name} can't be read") from None
    if not whole or not isinstance(files, dict):
        raise Changed(f"{path.name} is not as it was written")
    for name, digest in files.items():
        if Path(name).name != name:
            raise Changed(f"{path.name} names a file outside its folder")
        _refuse_link(path.with_name(name))
        try:
            if _file_sha256(path.with_name(name)) != digest:
                raise Changed(f"{name} is not as it was written")
        except OSError as error:
            raise Changed(f"{name}: {error.strerror}") from None
    return dict(content)


def _refuse_link(path: Path) -> None:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Changed(f"{path.name} is a link or no file; put the file itself there")


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with one spelling for each value; TypeError for what JSON can't hold."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "surrogatepass")


def _written(path: Path) -> str:
    """Waits until the file is on the disk; its SHA-256."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return _file_sha256(path)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
