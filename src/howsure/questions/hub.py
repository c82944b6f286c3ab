"""Sets of the catalogue from the Hugging Face Hub; the only file that imports `datasets`."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, cast

from howsure.errors import QuestionError
from howsure.questions import rows
from howsure.questions.catalogue import Entry, Hub, Row, SplitName
from howsure.questions.files import Part, Read, collect
from howsure.types import Question

_INSTEAD = "or pass --data-dir with a folder that holds {name}.<split>.jsonl files"


def is_available() -> bool:
    """Whether the optional library that reads the Hub is installed."""
    return importlib.util.find_spec("datasets") is not None


def check_available(name: str) -> None:
    """Raises QuestionError when the Hub can't be read at all; says what to do instead."""
    if not is_available():
        raise QuestionError(
            f"{name}: reading it from the Hub needs the package 'datasets', which isn't installed; "
            f"pip install 'howsure[hub]', {_INSTEAD.format(name=name)}"
        )


def read(entry: Entry, split: SplitName) -> Part:
    """One split of the set, from the Hub or from what an earlier call left in its cache.

    Raises QuestionError when it can't be had, or when a row isn't as the catalogue expects.
    """
    check_available(entry.name)
    hub = entry.hub
    origin = f"{hub.id} ({hub.config}, {hub.splits[split]})"
    table = _download(entry.name, hub, hub.splits[split])
    return collect(_reads(entry, split, table, origin), origin=origin, is_published=True)


def _download(name: str, hub: Hub, split: str) -> Iterable[Row]:
    # Absent from most machines, hence no type stubs; whatever it raises means "not to be had".
    datasets: Any = importlib.import_module("datasets")
    try:
        return cast(
            Iterable[Row],
            datasets.load_dataset(hub.id, hub.config, split=split, revision=hub.revision),
        )
    except Exception as error:
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise QuestionError(
            f"{name}: can't be read from the Hub as {hub.id} ({reason}); check the network, "
            f"{_INSTEAD.format(name=name)}"
        ) from error


def _reads(
    entry: Entry, split: SplitName, table: Iterable[Row], origin: str
) -> Iterator[tuple[str, Read]]:
    seen: Counter[str] = Counter()
    for number, theirs in enumerate(table, start=1):
        where = f"{origin}, row {number}"
        subject = theirs.get("subject", entry.name)
        parts = (entry.name, subject, split) if subject != entry.name else (entry.name, split)
        id = "/".join(map(str, (*parts, seen[str(subject)])))
        seen[str(subject)] += 1
        yield where, partial(_question, entry, theirs, where, id)


def _question(entry: Entry, theirs: Row, where: str, id: str) -> Question:
    try:
        row = {"subject": entry.name, **entry.hub.to_row(theirs)}
    except (KeyError, IndexError, ValueError, TypeError, AssertionError) as error:
        raise QuestionError(
            f"{where}: its fields aren't those of this set ({error!r}); the set on the Hub may "
            f"have changed, {_INSTEAD.format(name=entry.name)}"
        ) from error
    return rows.from_mapping(row, where=where, id=id)
