"""The run directory: where each thing lies, and writing that is whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from howsure import manifest, strict_json
from howsure.errors import PredictionsError, UsageError

RUNNING, STOPPED, FAILED, PARTIAL, COMPLETE = "running", "stopped", "failed", "partial", "complete"
"""How far a run came, in `run.json`: partial lacks some of what was asked for, and says what."""


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The folder that one run leaves."""

    path: Path

    @property
    def card(self) -> Path:
        return self.path / "run.json"

    @property
    def predictions(self) -> Path:
        return self.path / "predictions.parquet"

    @property
    def scores(self) -> Path:
        return self.path / "scores.csv"

    @property
    def store(self) -> Path:
        """What the stages made, unless a folder that runs share was named; see `shards`."""
        return self.path / ".store"

    @property
    def progress(self) -> Path:
        """How far the run is, for whoever asks meanwhile; see `status`."""
        return self.path / ".progress.json"

    @property
    def manifest(self) -> Path:
        """The SHA-256 of the tables, for whoever reads them later; there when the run is done."""
        return self.path / ".manifest.json"

    def seal(self) -> None:
        """Writes the manifest. Raises UsageError when it can't be written."""
        names = ("run.json", "predictions.parquet", "scores.csv", "questions.json")
        files = [f for name in names if (f := self.path / name).exists()]
        try:
            manifest.seal(self.manifest, files)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"can't write {self.manifest}: {reason}; make it writable") from None

    def check(self) -> None:
        """Compares the tables with the manifest, if there is one. Raises PredictionsError."""
        try:
            if self.manifest.exists():
                manifest.check(self.manifest)
        except manifest.Changed as error:
            raise PredictionsError(
                f"{self.path} has changed since its run: {error}; run the same command again, or "
                f"delete {self.manifest.name} in it to take it as it is"
            ) from None

    def estimator(self, model: str, format: str, method: str) -> Path:
        return self.path / "estimators" / format / file_name(model) / method


def open_directory(path: Path, spec: Mapping[str, Any]) -> RunDirectory:
    """The folder for a run of this spec, made if need be and found writable.

    Raises UsageError, before any work, when it can't be written to, when it holds something else
    than a run, or the run of another spec: results of two runs are never mixed or overwritten. A
    run of the same spec goes on where it stopped.
    """
    ensure_writable(path)
    directory = RunDirectory(path)
    if not directory.card.exists():
        strange = next((p.name for p in sorted(path.iterdir()) if not p.name.startswith(".")), None)
        if strange is not None:
            raise UsageError(
                f"{path} holds {strange!r} but no run; give an empty or a new folder with --output"
            )
        return directory
    before = read_json(directory.card).get("spec")
    if before != json.loads(json.dumps(dict(spec))):
        raise UsageError(
            f"{path} holds a run with other settings ({_difference(before, spec)}); "
            "give another folder with --output, or remove it"
        )
    return directory


def ensure_writable(path: Path) -> None:
    """Makes the folder and tries to write in it. Raises UsageError when either can't be done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"output directory {path} is not writable ({reason}); give another with --output"
        ) from None


def write_bytes(path: Path, data: bytes) -> None:
    """Writes beside `path`, then renames: a crash leaves the old file or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"can't write {path}: {reason}; give a folder that is writable") from None
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of the text in UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """`write_text` of the value as indented JSON; ValueError for NaN, which JSON lacks."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in the file. Raises UsageError when there is none."""
    try:
        value = strict_json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise UsageError(
            f"can't read {path}: {reason}; remove it, or give another folder"
        ) from None
    if not isinstance(value, dict):
        raise UsageError(f"{path} holds no JSON object; remove it, or give another folder")
    return value


def replace_folder(path: Path, files: Mapping[str, Path | bytes]) -> None:
    """A folder with just these files, copies or bytes, and a manifest of them.

    What was there before is gone afterwards.
    """
    fresh, old = (path.with_name(f".{path.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        fresh.mkdir(parents=True)
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.read_bytes()
            write_bytes(fresh / name, data)
        manifest.seal(fresh / manifest.NAME, sorted(fresh.iterdir()))
        if path.exists():
            path.rename(old)
        fresh.rename(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"can't write {path}: {reason}; give a folder that is writable") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def file_name(name: str) -> str:
    """A model's name as a file name: "owner/model" → "owner--model"; never hidden, never ".."."""
    plain = re.sub(r"[^\w.-]", "-", name.replace("/", "--"))
    return re.sub(r"^\.+", "", plain) or "model"


def sync_folder(path: Path) -> None:
    """Makes a rename in the folder last through a power cut, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _difference(before: object, spec: Mapping[str, Any]) -> str:
    """The names of the settings in which two specs differ."""
    if not isinstance(before, dict):
        return "its run.json names none"
    now = json.loads(json.dumps(dict(spec)))
    names = [k for k in {**before, **now} if before.get(k) != now.get(k)]
    return "they differ in " + ", ".join(names)
