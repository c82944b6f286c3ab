"""Sets of the catalogue from the Hugging Face Hub; the only file here that imports its library.

Every public set is kept on the Hub as Parquet too, in the branch `refs/convert/parquet`, whatever
form its publisher chose: one folder per configuration and split. Reading that branch needs no
loading script, which would be somebody else's code, and no library but the one that downloads.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from howsure.errors import QuestionError
from howsure.questions import rows
from howsure.questions.catalogue import Entry, Hub, SplitName
from howsure.questions.files import Part, Read, collect
from howsure.questions.layouts import Row, UnlabelledError
from howsure.types import Question

BRANCH = "refs/convert/parquet"

_SOLE = ("default", "plain_text")
_INSTEAD = "or pass --data-dir with a folder that holds {name}.<split>.jsonl files"


def is_available() -> bool:
    """Whether the optional library that reads the Hub is installed."""
    return importlib.util.find_spec("huggingface_hub") is not None


def check_available(name: str) -> None:
    """Raises QuestionError when the Hub can't be read at all; says what to do instead."""
    if not is_available():
        raise QuestionError(
            f"{name}: reading it from the Hub needs the package 'huggingface_hub', which isn't "
            f"installed; pip install 'howsure[hub]', {_INSTEAD.format(name=name)}"
        )


def read(entry: Entry, split: SplitName) -> Part:
    """One split of the set, from the Hub or from what an earlier call left in its cache.

    The origin names the commit. Raises QuestionError when it can't be had, or when a row isn't as
    the catalogue expects. Rows without an answer, and those with the same choice twice, are left
    out and listed.
    """
    check_available(entry.name)
    assert entry.hub is not None, f"{entry.name} is not on the Hub"
    theirs = entry.hub.splits[split]
    snapshot = _snapshot(entry.name, entry.hub, theirs)
    folders = (snapshot / config / theirs for config in _configs(entry.hub))
    paths = next((found for f in folders if (found := sorted(f.glob("*.parquet")))), [])
    if not paths:
        raise QuestionError(
            f"{entry.name}: {entry.hub.id} has no {entry.hub.config}/{theirs} in {BRANCH}, or the "
            f"cache lacks it; check the network, {_INSTEAD.format(name=entry.name)}"
        )
    origin = f"{entry.hub.id}@{snapshot.name[:12]} ({entry.hub.config}, {theirs})"
    return collect(_reads(entry, split, paths, origin), origin=origin, is_published=True)


def _configs(hub: Hub) -> list[str]:
    """The configuration's name; that of a set with only one is not the same in all conversions."""
    return [hub.config, *(_SOLE if hub.config in _SOLE else ())]


def _snapshot(name: str, hub: Hub, split: str) -> Path:
    """The folder of the commit, named after it, with at least the files of the split."""
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            hub.id,
            repo_type="dataset",
            revision=BRANCH,
            allow_patterns=[f"{config}/{split}/*.parquet" for config in _configs(hub)],
        )
    except Exception as error:  # whatever it raises means that the set is not to be had
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise QuestionError(
            f"{name}: can't be read from the Hub as {hub.id} ({reason}); check the network, "
            f"{_INSTEAD.format(name=name)}"
        ) from error
    return Path(folder)


def _reads(
    entry: Entry, split: SplitName, paths: list[Path], origin: str
) -> Iterator[tuple[str, Read]]:
    seen: Counter[str] = Counter()
    for number, theirs in enumerate(_rows(paths), start=1):
        where = f"{origin}, row {number}"
        subject = theirs.get("subject", entry.name)
        parts = (entry.name, subject, split) if subject != entry.name else (entry.name, split)
        id = "/".join(map(str, (*parts, seen[str(subject)])))
        seen[str(subject)] += 1
        yield where, partial(as_question, entry, theirs, where=where, id=id)


def _rows(paths: list[Path]) -> Iterator[Row]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    for path in paths:
        try:
            for batch in ParquetFile(path).iter_batches():
                yield from batch.to_pylist()
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise QuestionError(f"{path}: can't be read ({error}); remove it") from error


def as_question(entry: Entry, theirs: Row, *, where: str, id: str) -> Question:
    """The question that one row of a release tells. Raises QuestionError, with the place."""
    try:
        row = {"subject": entry.name, **entry.layout.read(theirs)}
    except UnlabelledError as error:
        raise rows.UnusableError(f"{where}: {error}", id, "no answer in the release") from error
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise QuestionError(
            f"{where}: its fields aren't those of this set ({error!r}); the set may have changed, "
            f"{_INSTEAD.format(name=entry.name)}"
        ) from error
    return rows.from_mapping(row, where=where, id=id)
