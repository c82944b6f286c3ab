"""Files of a report, each written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path

from howsure.errors import UsageError


def make_folder(folder: Path) -> None:
    """With those above it. Raises UsageError where it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error) from None


def write(path: Path, data: bytes) -> Path:
    """Writes beside `path`, then renames: a reader sees the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def as_json(value: object) -> bytes:
    """One value as a JSON file in UTF-8."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode("utf-8", "replace")


def file_safe(name: str) -> str:
    """A name as a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)[:40]


def _unwritable(path: Path, error: OSError) -> UsageError:
    reason = error.strerror or str(error)
    return UsageError(f"can't write {path}: {reason}; give a folder that is writable")
