"""One process at a time on a run directory; a lock whose owner is gone is taken over."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from howsure.errors import UsageError
from howsure.shards import is_alive

LOCK = ".lock"

BEAT = 5.0
"""Seconds between two signs of life."""

_SILENCE = 4 * BEAT
"""So long without one, and an owner on another machine counts as gone."""


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that works, or worked, on a run."""

    pid: int
    host: str
    started: str
    """When the process began, as its system tells it: process numbers are used again."""
    since: str

    @staticmethod
    def me() -> Owner:
        now = time.strftime("%Y-%m-%d %H:%M:%S")
        return Owner(os.getpid(), socket.gethostname(), _started(os.getpid()), now)

    def is_alive_here(self) -> bool:
        """Whether it is a process of this machine that still lives."""
        here = self.host == socket.gethostname()
        return here and is_alive(self.pid) and _started(self.pid) == self.started

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since}"


@contextmanager
def held(folder: Path, say: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Within, no other process can hold the folder. Raises UsageError, which names it, if one
    does.

    The system frees the lock when its owner dies, however it dies. Where the file system knows no
    locks, or the owner was on another machine, its sign of life (the file's time) is watched.
    """
    path = folder / LOCK
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        known = _locked(handle, path)
        before = owner(folder)
        if before is not None:
            if not known and before.is_alive_here():
                _refuse(path, before)
            if before.host != socket.gethostname():
                _watch(path, before, say)
        _write(handle, json.dumps(asdict(Owner.me())))
        try:
            with _beating(path):
                yield
        finally:
            _write(handle, "")
    finally:
        os.close(handle)


def owner(folder: Path) -> Owner | None:
    """Who holds the folder, or held it until it died; None when it was given back."""
    try:
        return Owner(**json.loads((folder / LOCK).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, empty, or cut off while being written
        return None


def is_held(folder: Path) -> bool:
    """Whether a process of this machine is at work on the folder, or one of another may be."""
    before = owner(folder)
    if before is None:
        return False
    return before.is_alive_here() or before.host != socket.gethostname()


def _locked(handle: int, path: Path) -> bool:
    """Takes the system's lock; False where the file system has none."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            _refuse(path, owner(path.parent))
        return False
    return True


def _refuse(path: Path, before: Owner | None) -> None:
    raise UsageError(
        f"another process works on {path.parent} ({before or 'unknown'}); wait for it, stop it, "
        "or give another folder with --output"
    )


def _watch(path: Path, before: Owner, say: Callable[[str], None]) -> None:
    """Waits for a sign of life of another machine's process; returns when there is none."""
    say(f"was left by {before}: waiting {_SILENCE:.0f} s for a sign of life")
    first = path.stat().st_mtime_ns
    until = time.monotonic() + _SILENCE
    while time.monotonic() < until:
        time.sleep(BEAT / 2)
        if path.stat().st_mtime_ns != first:
            _refuse(path, before)


@contextmanager
def _beating(path: Path) -> Iterator[None]:
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(BEAT):
            with suppress(OSError):
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _write(handle: int, text: str) -> None:
    os.truncate(handle, 0)
    os.pwrite(handle, text.encode(), 0)
    os.fsync(handle)


def _started(pid: int) -> str:
    """The system's clock tick at which a process began; "" where the system doesn't say."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return ""
    return line.rpartition(")")[2].split()[19]
