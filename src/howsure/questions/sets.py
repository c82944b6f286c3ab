"""`open_set`: a name or a path → a set of questions with its splits."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import get_args

from howsure.errors import QuestionError, UnknownName
from howsure.questions import files, hub, mmlu, quiz
from howsure.questions.catalogue import CATALOGUE, SPLITS, Entry, SplitName, entry_of_file
from howsure.questions.files import Excluded, Part
from howsure.types import Question

QUICKSTART = "quickstart"
QUICKSTART_SIZES: dict[SplitName, int] = {"train": 300, "val": 50, "test": 150}
"""Questions per subject in each split of the quickstart quiz."""

DATA_DIR_VARIABLE = "HOWSURE_DATA"

_ENDS = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class QuestionSet:
    """Questions under one name, in up to four splits, each read when it is first asked for.

    `dev` holds few-shot examples, `train` questions to fit estimators on, `val` those to calibrate
    on, `test` those to score.
    """

    name: str
    categories: Mapping[str, str]
    """Subject → category, in the order in which pictures show them; may be empty."""
    parts: Mapping[SplitName, Callable[[], Part]] = field(repr=False)
    """What reads each split there is."""
    notes: tuple[str, ...] = ()
    """What a reader of the results has to know about how this set was made, one line each."""

    def has(self, split: SplitName) -> bool:
        """Whether there is such a split. Raises UnknownName for a word that is no split's name."""
        if split not in SPLITS:
            raise UnknownName("split", split, SPLITS)
        return split in self.parts

    def load(self, split: SplitName) -> list[Question]:
        """All its questions in the order of their source, never empty.

        Raises QuestionError when there is no such split, or when it can't be read.
        """
        return list(self._part(split).questions)

    def excluded(self, split: SplitName) -> tuple[Excluded, ...]:
        """The published questions that were left out of the split, each with the reason."""
        return self._part(split).excluded

    def origin(self, split: SplitName) -> str:
        """The file, folder or Hub set that the split was read from."""
        return self._part(split).origin

    def _part(self, split: SplitName) -> Part:
        if not self.has(split):
            there = ", ".join(s for s in SPLITS if s in self.parts) or "nothing"
            raise QuestionError(
                f"question set {self.name!r} has no {split!r} split; it has: {there}"
            )
        return self.parts[split]()


def open_set(name_or_path: str, data_dir: Path | None = None) -> QuestionSet:
    """The set that the name or path stands for. Tried in this order:

    1. `quickstart`: the quiz that code generates.
    2. A name of the catalogue: its files in `data_dir` (or the folder that HOWSURE_DATA names),
       where MMLU may also be Hendrycks' folders; else the Hub.
    3. A path: a folder in Hendrycks' layout, or a .jsonl or .csv file (.gz too). A file has one
       split, `test`; see `hold_out`.

    Write `./mmlu` for a folder that is called like a set. Raises UnknownName for a name that is
    neither, and QuestionError for what can't be read; what looks like a path is never looked for on
    the network.
    """
    if name_or_path == QUICKSTART:
        return quickstart()
    if name_or_path in CATALOGUE:
        return _open_entry(CATALOGUE[name_or_path], _data_dir(data_dir))
    path = Path(name_or_path)
    if name_or_path and path.is_dir():
        return _open_folder(path)
    if name_or_path and path.exists():
        return _open_file(path)
    if _looks_like_path(name_or_path):
        same = next((e.name for e in CATALOGUE.values() if _is_on_hub(e, name_or_path)), None)
        hint = f"{name_or_path} on the Hub is called {same!r} here" if same else "check the path"
        raise QuestionError(f"{name_or_path}: there is no such file or folder; {hint}")
    raise UnknownName(
        "question set",
        name_or_path,
        (QUICKSTART, *CATALOGUE),
        "Or give the path of a .jsonl or .csv file, or of a folder.",
    )


def quickstart(sizes: Mapping[SplitName, int] = QUICKSTART_SIZES, *, seed: int = 0) -> QuestionSet:
    """The quickstart quiz with `sizes[split]` questions per subject."""
    known = [s for s in get_args(quiz.Split) if s in sizes]
    parts = {s: cache(partial(_quiz_part, s, sizes[s], seed)) for s in known}
    return QuestionSet(QUICKSTART, quiz.CATEGORIES, parts)


def _quiz_part(split: quiz.Split, size: int, seed: int) -> Part:
    questions = quiz.quiz(split, size, seed=seed)
    return Part(tuple(questions), (), f"generated, seed {seed}, {size} a subject")


def _data_dir(given: Path | None) -> Path | None:
    named = os.environ.get(DATA_DIR_VARIABLE, "")
    folder = given or (Path(named) if named else None)
    if folder is not None and not folder.is_dir():
        source = "--data-dir" if given else DATA_DIR_VARIABLE
        raise QuestionError(f"{source} {folder}: there is no such folder; check the path")
    return folder


def _open_entry(entry: Entry, data_dir: Path | None) -> QuestionSet:
    found = _local_parts(entry, data_dir) if data_dir else {}
    if found:
        return QuestionSet(entry.name, entry.categories, found)
    if entry.hub is None:
        raise QuestionError(
            f"{entry.name} is handed out on request only ({entry.on_request}); put its CSV into "
            f"--data-dir as {entry.name}.val.csv"
        )
    try:
        hub.check_available(entry.name)
    except QuestionError as error:
        if data_dir is None:
            raise
        raise QuestionError(
            f"{entry.name}: {data_dir} holds no {_wanted(entry)}; "
            f"add it there, or pip install 'howsure[hub]' to read it from the Hub"
        ) from error
    remote = {s: cache(partial(hub.read, entry, s)) for s in entry.hub.splits}
    return QuestionSet(entry.name, entry.categories, remote)


def _is_on_hub(entry: Entry, id: str) -> bool:
    return entry.hub is not None and entry.hub.id == id


def _wanted(entry: Entry) -> str:
    file_splits = dict.fromkeys(s for splits in entry.files.values() for s in splits)
    return " or ".join(f"{entry.name}.{s}.jsonl(.gz)" for s in file_splits)


def _local_parts(entry: Entry, data_dir: Path) -> dict[SplitName, Callable[[], Part]]:
    parts: dict[SplitName, Callable[[], Part]] = {}
    for split, file_splits in entry.files.items():
        ends = (".jsonl", ".jsonl.gz", ".csv", ".csv.gz") if entry.on_request else _ENDS
        names = [f"{entry.name}.{s}{end}" for s in file_splits for end in ends]
        path = next((data_dir / n for n in names if (data_dir / n).is_file()), None)
        if path is not None:
            parts[split] = cache(partial(_read_local, entry, path))
    if parts or entry.name != "mmlu":
        return parts
    folders = (data_dir / "mmlu", data_dir / "data", data_dir)
    return next((found for f in folders if (found := _hendrycks_parts(f, "mmlu"))), {})


def _read_local(entry: Entry, path: Path) -> Part:
    if not path.name.removesuffix(".gz").endswith(".csv"):
        return files.read_file(path, is_published=True)
    return files.read_release(
        path, lambda row, where, id: hub.as_question(entry, row, where=where, id=id)
    )


def _hendrycks_parts(folder: Path, name: str) -> dict[SplitName, Callable[[], Part]]:
    return {
        split: cache(partial(files.read_hendrycks, folder, split, name=name))
        for split in SPLITS
        if files.hendrycks_files(folder, split)
    }


def _open_folder(folder: Path) -> QuestionSet:
    name = folder.resolve().name
    parts = _hendrycks_parts(folder, name)
    if not parts:
        sets = sorted(_catalogue_names(folder))
        hint = f"for a set in it, use --questions {sets[0]} --data-dir {folder}" if sets else ""
        raise QuestionError(
            f"{folder}: no folder in Hendrycks' layout (dev/, val/ or test/ with "
            f"<subject>_<split>.csv); {hint or 'give such a folder, or a .jsonl or .csv file'}"
        )
    subjects = {
        path.stem.removesuffix(f"_{s}") for s in parts for path in files.hendrycks_files(folder, s)
    }
    return QuestionSet(name, mmlu.categories_of(subjects), parts)


def _catalogue_names(folder: Path) -> Iterable[str]:
    entries = (entry_of_file(files.stem_of(p)) for p in folder.iterdir() if p.is_file())
    return {entry.name for entry in entries if entry}


def _open_file(path: Path) -> QuestionSet:
    if not path.name.endswith(files.SUFFIXES):
        raise QuestionError(
            f"{path}: not a kind of file that is read; name it {', '.join(files.SUFFIXES)}"
        )
    entry = entry_of_file(files.stem_of(path))
    part = files.read_file(path, is_published=entry is not None)
    subjects = {q.subject for q in part.questions}
    categories = entry.categories if entry else mmlu.categories_of(subjects)
    return QuestionSet(files.stem_of(path), categories, {"test": lambda: part})


def _looks_like_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.endswith((".jsonl", ".json", ".csv", ".gz"))
