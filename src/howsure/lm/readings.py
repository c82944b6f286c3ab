"""Rows that have been read already, by text: who asks for them again is spared the reading."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from howsure.lm.passage import AnswerTokens, Passage, Place, Want


class Readings:
    """Rows of the bare model, kept on disk as long as the object lives."""

    def __init__(self) -> None:
        self._kept: dict[Want, _Kept] = {}
        self.seconds = 0.0
        """Spent so far on reading what is kept here, along with answers."""

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
        self.seconds = 0.0

    def put(self, passages: Sequence[Passage], want: Want, values: NDArray[np.float32]) -> None:
        """Remember one row per passage."""
        if want not in self._kept:
            self._kept[want] = _Kept(values.shape[1])
        self._kept[want].add([_key(p, want) for p in passages], values)

    def get(
        self, passages: Sequence[Passage], want: Want
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]] | None:
        """(rows, which of them are known); None when nothing of that kind is."""
        kept = self._kept.get(want)
        if kept is None:
            return None
        return kept.find([_key(p, want) for p in passages])


class _Kept:
    """The rows of one want: a file of them, and where in it each passage's row is."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as we do)
        weakref.finalize(self, self._file.close)
        self._row_of: dict[bytes, int] = {}

    def add(self, keys: Sequence[bytes], values: NDArray[np.float32]) -> None:
        new = []
        for i, key in enumerate(keys):
            if key not in self._row_of:
                self._row_of[key] = len(self._row_of)
                new.append(i)
        self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(values[new], dtype=np.float32).tobytes())
        self._file.flush()

    def find(self, keys: Sequence[bytes]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        rows = [self._row_of.get(key) for key in keys]
        known = np.array([r is not None for r in rows], dtype=np.bool_)
        out = np.zeros((len(keys), self._width), dtype=np.float32)
        if known.any():
            kept = np.memmap(self._file, dtype=np.float32, mode="r").reshape(-1, self._width)
            out[known] = kept[[r for r in rows if r is not None]]
        return out, known


def _key(passage: Passage, want: Want) -> bytes:
    place = Place.ANSWER if isinstance(want, AnswerTokens) else want.place
    parts = (passage.upto(Place.QUESTION), passage.upto(place))
    return blake2b("\0".join(parts).encode(), digest_size=16).digest()
