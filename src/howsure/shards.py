"""The store of a run: what each stage made, under the hash of all that decided it.

    <root>/<stage>/<two letters>/<key>/   the shard's files, and its manifest.json
    <root>/replies/                       what servers have said; see `api`
    <root>/checkpoints/                   trainings that are not yet at their end; see `Unfinished`

A key is a hash of contents, so a shard is never replaced: it is there and right, or not there.
It appears by one rename, after all its files have reached the disk; its manifest holds
their SHA-256, which is compared whenever the shard is opened. Several processes and machines may
share a root: whoever comes second takes what is there.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from howsure import manifest
from howsure.errors import StoreError, UsageError
from howsure.store import sync_folder

_HEX = 64
"""Characters of a SHA-256 in hexadecimal."""
_log = logging.getLogger("howsure")
VERSION = 1
"""Of the layout; part of every key, so that shards of another layout are not found."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard that is there, with all its files as they were written."""

    folder: Path
    stage: str
    key: str
    digest: str
    """SHA-256 over the files' own; what comes of the shard has it in its key."""
    seconds: float
    """How long it took to make."""
    about: Mapping[str, Any] = field(default_factory=dict, compare=False)


@dataclass(frozen=True, slots=True)
class Damage:
    """A shard that was there but not as it had been written."""

    folder: Path
    reason: str

    def __str__(self) -> str:
        return f"{self.folder.parts[-3]} shard {self.folder} is damaged ({self.reason})"


def key_of(stage: str, content: Mapping[str, Any]) -> str:
    """SHA-256 (hex) of JSON values; TypeError for anything whose meaning JSON can't hold."""
    return manifest.sha256(manifest.canonical([VERSION, stage, content]))


@dataclass(frozen=True, slots=True)
class Shards:
    """The store below one folder."""

    root: Path
    recompute: bool = True
    """Whether a damaged shard is taken away, so that it is made again; else it is refused."""

    def find(
        self, stage: str, key: str, on_damage: Callable[[Damage], None] | None = None
    ) -> Shard | None:
        """The shard, its files compared with their SHA-256; None when it isn't there.

        A damaged one is taken away, told to `on_damage` and not there any more. Raises UsageError
        for it when nothing may be computed again.
        """
        folder = self._folder(stage, key)
        if not folder.is_dir():
            return None
        found = _opened(folder, stage, key)
        if isinstance(found, Shard):
            return found
        if not self.recompute:
            raise UsageError(f"{found}; run without --no-recompute to have it made again")
        self._remove(folder)
        if on_damage:
            on_damage(found)
        return None

    def open(self, shard: Shard) -> Path:
        """The folder of a shard that was found or made before; its files are compared again.

        Raises StoreError when it has been damaged or taken away since.
        """
        found = _opened(shard.folder, shard.stage, shard.key)
        if isinstance(found, Shard) and found.digest == shard.digest:
            return shard.folder
        reason = found if isinstance(found, Damage) else "other files are in its place"
        raise StoreError(f"{reason}; run the same command again: it will be made again")

    def make(
        self,
        stage: str,
        key: str,
        write: Callable[[Path], object],
        *,
        since: float,
        about: Mapping[str, Any] | None = None,
    ) -> Shard:
        """`write` puts the shard's files into the folder it is given; then the shard is there.

        `since` is when the work on it began (time.perf_counter). Where another process was
        quicker, its shard is taken. Raises StoreError when the disk is full or can't be written.
        """
        folder = self._folder(stage, key)
        with self._temporary(folder) as temporary:
            write(temporary)
            seconds = round(time.perf_counter() - since, 3)
            files = [p for p in sorted(temporary.iterdir()) if p.name != manifest.NAME]
            content = {"version": VERSION, "stage": stage, "key": key}
            content |= {"seconds": seconds, "about": dict(about or {})}
            manifest.seal(temporary / manifest.NAME, files, content)
            sync_folder(temporary)
            _rename(temporary, folder)
        made = _opened(folder, stage, key)
        if isinstance(made, Damage):
            raise StoreError(f"{made} just after it was written; check the disk")
        return made

    def remove(self, stage: str, key: str) -> None:
        """Takes a shard away, whole; nothing happens when it isn't there."""
        folder = self._folder(stage, key)
        if folder.is_dir():
            self._remove(folder)

    def unfinished(self, key: str) -> Unfinished:
        """Where the training of the estimator of this key keeps its state while it lasts."""
        return Unfinished(self, self.root / "checkpoints" / key)

    def sweep(self) -> None:
        """Removes what processes of this machine that are gone have left half-written."""
        mine = f".tmp-{_host()}-"
        for left in (*self.root.glob(f"*/*/{mine}*"), *self.root.glob(f"*/{mine}*")):
            pid = left.name.removeprefix(mine).split("-")[0]
            if not pid.isdecimal() or is_alive(int(pid)):
                continue
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)

    def _folder(self, stage: str, key: str) -> Path:
        return self.root / stage / key[:2] / key

    @contextmanager
    def _temporary(self, folder: Path) -> Iterator[Path]:
        """A folder beside the one to be; gone afterwards, unless it was renamed."""
        temporary = _beside(folder)
        try:
            temporary.mkdir(parents=True)
            yield temporary
        except OSError as error:
            cant_write(self.root, error)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

    def _remove(self, folder: Path) -> None:
        aside = _beside(folder)
        try:
            with suppress(FileNotFoundError):  # another process was quicker
                folder.rename(aside)
            shutil.rmtree(aside, ignore_errors=True)
        except OSError as error:
            cant_write(self.root, error)


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The state of one training: a file that begins with the SHA-256 (hex) of the rest."""

    _store: Shards
    path: Path

    def load(self) -> bytes | None:
        """What was saved last; None when nothing was.

        A damaged state is taken away, and the log says so: the training begins anew. Raises
        UsageError for it when nothing may be computed again.
        """
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or str(error)
        else:
            if data[:_HEX].decode("ascii", "replace") == manifest.sha256(data[_HEX:]):
                return data[_HEX:]
            reason = "it is not as it was written"
        found = f"the state of a training, {self.path}, is damaged ({reason})"
        if not self._store.recompute:
            raise UsageError(f"{found}; run without --no-recompute to have it trained anew")
        _log.warning("%s; it begins anew", found)
        self.remove()
        return None

    def save(self, data: bytes) -> None:
        """Replaces what was saved before. Raises StoreError when the disk is full."""
        temporary = _beside(self.path)
        try:
            temporary.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(manifest.sha256(data).encode("ascii"))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
            sync_folder(self.path.parent)
        except OSError as error:
            cant_write(self._store.root, error)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)

    def remove(self) -> None:
        """The training is at its end. Raises StoreError when the folder can't be written to."""
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            cant_write(self._store.root, error)


def cant_write(path: Path, error: OSError) -> NoReturn:
    """Raises the one line for a disk that is full or read-only."""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    remedy = "free some" if full else "make it writable"
    raise StoreError(
        f"can't write below {path}: {error.strerror or error}; {remedy} and run the same command "
        "again: it goes on from what is there",
        fatal=True,
    ) from error


def is_alive(pid: int) -> bool:
    """Whether this machine has a process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _opened(folder: Path, stage: str, key: str) -> Shard | Damage:
    try:
        found = manifest.check(folder / manifest.NAME)
    except manifest.Changed as error:
        return Damage(folder, str(error))
    if (found.get("version"), found.get("stage"), found.get("key")) != (VERSION, stage, key):
        return Damage(folder, f"{manifest.NAME} is that of another shard")
    digest = manifest.sha256(manifest.canonical(found["files"]))
    return Shard(folder, stage, key, digest, found["seconds"], found["about"])


def _rename(temporary: Path, folder: Path) -> None:
    try:
        temporary.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return  # another process was quicker
    sync_folder(folder.parent)


def _beside(folder: Path) -> Path:
    return folder.parent / f".tmp-{_host()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"


def _host() -> str:
    return socket.gethostname().replace("-", "_")
