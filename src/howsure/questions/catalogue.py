"""The question sets known by name: which files and which Hub splits stand for which of ours.

A set's files are called `<set>.<split>.jsonl` or `.jsonl.gz`; releases call their splits by
different names, so each of our splits lists the file splits that may stand for it, best first.
Where a release keeps the answers of its test split to itself, its validation split is the one
that is evaluated, as is usual, and so is our `test`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from howsure.questions import mmlu

SplitName = Literal["dev", "train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("dev", "train", "val", "test")

Row = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a set is on the Hugging Face Hub, and how one of its rows reads."""

    id: str
    config: str
    splits: Mapping[SplitName, str]
    to_row: Callable[[Row], Row]
    """A row of theirs → the fields of `howsure.questions.rows`."""
    revision: str | None = None
    """The branch to read; None is the default one."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One set of the catalogue."""

    name: str
    files: Mapping[SplitName, tuple[str, ...]]
    hub: Hub
    categories: Mapping[str, str] = field(default_factory=dict)
    """Subject → category; empty when the set's subjects have none."""


_VALIDATION = ("val", "validation", "dev")

_PUBLIC_TEST: dict[SplitName, tuple[str, ...]] = {
    "train": ("train",),
    "val": _VALIDATION,
    "test": ("test",),
}
_HIDDEN_TEST: dict[SplitName, tuple[str, ...]] = {"train": ("train",), "test": _VALIDATION}

_HUB_PUBLIC: dict[SplitName, str] = {"train": "train", "val": "validation", "test": "test"}
_HUB_HIDDEN: dict[SplitName, str] = {"train": "train", "test": "validation"}

# The branch that the Hub converts to Parquet by itself; the default branches of these sets hold a
# loading script, which `datasets` 4 no longer runs.
_CONVERTED = "refs/convert/parquet"


def _as_is(row: Row) -> Row:
    return row


def _mmlu_pro(row: Row) -> Row:
    return {
        "id": f"mmlu_pro/{row['question_id']}",
        "subject": row["category"],
        "question": row["question"],
        "choices": row["options"],
        "answer": row["answer_index"],
    }


def _keyed(row: Row) -> Row:
    """ARC, OpenBookQA, CommonsenseQA: choices as {"label", "text"}, the answer as a label."""
    choices = row["choices"]
    assert isinstance(choices, Mapping)
    return {
        "question": row.get("question", row.get("question_stem")),
        "choices": choices["text"],
        "answer": list(choices["label"]).index(row["answerKey"]),
    }


def _boolq(row: Row) -> Row:
    return {
        "question": row["question"],
        "choices": ["false", "true"],
        "answer": int(bool(row["answer"])),
    }


def _piqa(row: Row) -> Row:
    return {"question": row["goal"], "choices": [row["sol1"], row["sol2"]], "answer": row["label"]}


def _social_i_qa(row: Row) -> Row:
    return {
        "question": f"{row['context']} {row['question']}",
        "choices": [row["answerA"], row["answerB"], row["answerC"]],
        "answer": int(str(row["label"])) - 1,
    }


def _winogrande(row: Row) -> Row:
    return {
        "question": row["sentence"],
        "choices": [row["option1"], row["option2"]],
        "answer": int(str(row["answer"])) - 1,
    }


def _cosmos_qa(row: Row) -> Row:
    return {
        "question": f"{row['context']}\n\n{row['question']}",
        "choices": [row[f"answer{i}"] for i in range(4)],
        "answer": row["label"],
    }


def _truthfulqa(row: Row) -> Row:
    """The Hub lists the right choice first; sorting the texts keeps it from always being (a)."""
    targets = row["mc1_targets"]
    assert isinstance(targets, Mapping)
    right = targets["choices"][list(targets["labels"]).index(1)]
    choices = sorted(targets["choices"])
    return {"question": row["question"], "choices": choices, "answer": choices.index(right)}


_ENTRIES = (
    Entry(
        "mmlu",
        {"dev": ("dev",), "val": ("val", "validation"), "test": ("test",)},
        Hub("cais/mmlu", "all", {"dev": "dev", "val": "validation", "test": "test"}, _as_is),
        mmlu.CATEGORIES,
    ),
    Entry(
        "mmlu_pro",
        {"dev": _VALIDATION, "test": ("test",)},
        Hub("TIGER-Lab/MMLU-Pro", "default", {"dev": "validation", "test": "test"}, _mmlu_pro),
    ),
    Entry("arc_easy", _PUBLIC_TEST, Hub("allenai/ai2_arc", "ARC-Easy", _HUB_PUBLIC, _keyed)),
    Entry(
        "arc_challenge", _PUBLIC_TEST, Hub("allenai/ai2_arc", "ARC-Challenge", _HUB_PUBLIC, _keyed)
    ),
    Entry("openbookqa", _PUBLIC_TEST, Hub("allenai/openbookqa", "main", _HUB_PUBLIC, _keyed)),
    Entry("boolq_no_passage", _HIDDEN_TEST, Hub("google/boolq", "default", _HUB_HIDDEN, _boolq)),
    Entry(
        "commonsense_qa", _HIDDEN_TEST, Hub("tau/commonsense_qa", "default", _HUB_HIDDEN, _keyed)
    ),
    Entry("piqa", _HIDDEN_TEST, Hub("ybisk/piqa", "default", _HUB_HIDDEN, _piqa, _CONVERTED)),
    Entry("social_i_qa", _HIDDEN_TEST, Hub("lighteval/siqa", "default", _HUB_HIDDEN, _social_i_qa)),
    Entry(
        "winogrande",
        _HIDDEN_TEST,
        Hub("allenai/winogrande", "winogrande_xl", _HUB_HIDDEN, _winogrande),
    ),
    Entry(
        "cosmos_qa",
        _HIDDEN_TEST,
        Hub("allenai/cosmos_qa", "default", _HUB_HIDDEN, _cosmos_qa, _CONVERTED),
    ),
    Entry(
        "truthfulqa_mc1",
        {"test": ("all", *_VALIDATION)},
        Hub("truthfulqa/truthful_qa", "multiple_choice", {"test": "validation"}, _truthfulqa),
    ),
)

CATALOGUE: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
"""Name → entry, in the order in which they are listed to the user."""


def entry_of_file(stem: str) -> Entry | None:
    """The entry whose file is called `<set>.<split>`, if the stem is such a name."""
    name, _, split = stem.rpartition(".")
    entry = CATALOGUE.get(name)
    known = entry is not None and any(split in splits for splits in entry.files.values())
    return entry if known else None
