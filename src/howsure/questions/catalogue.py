"""The question sets known by name, as one table: where each is, and how its rows read.

A set's files are called `<set>.<split>.jsonl` or `.jsonl.gz`; releases call their splits by
different names, so each of our splits lists the file splits that may stand for it, best first.
Where a release keeps the answers of its test split to itself, its validation split is the one
that is evaluated, as is usual, and so is our `test`.

The templates are ours, and the same for both formats: each says what is asked, so that a question
makes sense without its options too. `docs/questions.md` sets them beside the published mixture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from howsure.questions import layouts, mmlu
from howsure.questions.layouts import (
    Layout,
    fields,
    fixed,
    in_order,
    index,
    keyed,
    letter,
    listed,
    math_options,
    text,
    truth,
)

SplitName = Literal["dev", "train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("dev", "train", "val", "test")

Splits = Mapping[SplitName, str]
Files = Mapping[SplitName, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Hub:
    """Where a set is on the Hugging Face Hub; its splits are our name → theirs."""

    id: str
    config: str
    splits: Splits


@dataclass(frozen=True, slots=True)
class Entry:
    """One set of the catalogue."""

    name: str
    hub: Hub | None
    """None where the publisher hands the set out on request only; see `on_request`."""
    layout: Layout
    licence: str
    """As its card or its publisher states it; "not stated" where neither does."""
    files: Files
    categories: Mapping[str, str] = field(default_factory=dict)
    """Subject → category; empty when the set's subjects have none."""
    closed: bool = False
    """Whether its answers make no sense unless the options are shown."""
    on_request: str = ""
    """Where to ask for it; its CSV then goes into the data folder as `<set>.<split>.csv`."""


_VALIDATION = ("val", "validation", "dev")

_TRAIN_ONLY: Files = {"train": ("train",), "test": ("test",)}
_PUBLIC_TEST: Files = {"train": ("train",), "val": _VALIDATION, "test": ("test",)}
_HIDDEN_TEST: Files = {"train": ("train",), "test": _VALIDATION}

_HUB_PUBLIC: Splits = {"train": "train", "val": "validation", "test": "test"}
_HUB_HIDDEN: Splits = {"train": "train", "test": "validation"}

_PLAIN = "{question}"
_NLI = (
    "Premise: {premise}\nHypothesis: {hypothesis}\n"
    "Is the hypothesis true, given the premise? Yes, no, or impossible to say?"
)
_UNSURE = "It's impossible to say"

_KEYED = Layout(_PLAIN, keyed, layouts.key)
_ENTAILED_FIRST = Layout(_NLI, fixed("Yes", _UNSURE, "No"), index("label"))
_SIQA_ANSWERS = fields("answerA", "answerB", "answerC")
_COSMOS_ANSWERS = fields("answer0", "answer1", "answer2", "answer3")
_TREC_KINDS = fixed(
    "Abbreviation",
    "Entity",
    "Description and abstract concept",
    "Human being",
    "Location",
    "Numeric value",
)


def _anli(round: int) -> Entry:
    splits: Splits = {s: f"{t}_r{round}" for s, t in _HUB_ANLI.items()}
    hub = Hub("facebook/anli", "plain_text", splits)
    return Entry(f"anli_r{round}", hub, _ENTAILED_FIRST, "CC-BY-NC-4.0", _PUBLIC_TEST)


_HUB_ANLI: Splits = {"train": "train", "val": "dev", "test": "test"}

_ENTRIES = (
    Entry(
        "mmlu",
        Hub("cais/mmlu", "all", {"dev": "dev", "val": "validation", "test": "test"}),
        Layout(_PLAIN, listed("choices"), index("answer"), subject="{subject}"),
        "MIT",
        {"dev": ("dev",), "val": ("val", "validation"), "test": ("test",)},
        mmlu.CATEGORIES,
    ),
    Entry(
        "mmlu_pro",
        Hub("TIGER-Lab/MMLU-Pro", "default", {"dev": "validation", "test": "test"}),
        Layout(
            _PLAIN,
            listed("options"),
            index("answer_index"),
            subject="{category}",
            id="mmlu_pro/{question_id}",
        ),
        "MIT",
        {"dev": _VALIDATION, "test": ("test",)},
    ),
    Entry(
        "arc_easy",
        Hub("allenai/ai2_arc", "ARC-Easy", _HUB_PUBLIC),
        _KEYED,
        "CC-BY-SA-4.0",
        _PUBLIC_TEST,
    ),
    Entry(
        "arc_challenge",
        Hub("allenai/ai2_arc", "ARC-Challenge", _HUB_PUBLIC),
        _KEYED,
        "CC-BY-SA-4.0",
        _PUBLIC_TEST,
    ),
    Entry(
        "openbookqa",
        Hub("allenai/openbookqa", "main", _HUB_PUBLIC),
        Layout("{question_stem}", keyed, layouts.key),
        "not stated",
        _PUBLIC_TEST,
    ),
    Entry(
        "boolq",
        Hub("google/boolq", "default", _HUB_HIDDEN),
        Layout("{passage}\n\n{question}?", fixed("False", "True"), truth("answer")),
        "CC-BY-SA-3.0",
        _HIDDEN_TEST,
    ),
    Entry(
        "boolq_no_passage",
        Hub("google/boolq", "default", _HUB_HIDDEN),
        Layout(_PLAIN, fixed("false", "true"), truth("answer")),
        "CC-BY-SA-3.0",
        _HIDDEN_TEST,
    ),
    Entry(
        "commonsense_qa",
        Hub("tau/commonsense_qa", "default", _HUB_HIDDEN),
        _KEYED,
        "MIT",
        _HIDDEN_TEST,
    ),
    Entry(
        "cosmos_qa",
        Hub("allenai/cosmos_qa", "default", _HUB_HIDDEN),
        Layout("{context}\n\n{question}", _COSMOS_ANSWERS, index("label")),
        "CC-BY-4.0",
        _HIDDEN_TEST,
    ),
    Entry(
        "hellaswag",
        Hub("Rowan/hellaswag", "default", _HUB_HIDDEN),
        Layout("{ctx}\nHow does this go on?", listed("endings"), index("label")),
        "not stated",
        _HIDDEN_TEST,
        closed=True,
    ),
    Entry(
        "math_qa",
        Hub("allenai/math_qa", "default", _HUB_PUBLIC),
        Layout("{Problem}", math_options, letter("correct")),
        "Apache-2.0",
        _PUBLIC_TEST,
    ),
    Entry(
        "piqa",
        Hub("ybisk/piqa", "plain_text", _HUB_HIDDEN),
        Layout("{goal}", fields("sol1", "sol2"), index("label")),
        "not stated",
        _HIDDEN_TEST,
    ),
    Entry(
        "sciq",
        Hub("allenai/sciq", "default", _HUB_PUBLIC),
        Layout(
            "{support}\n\n{question}",
            in_order("distractor1", "distractor2", "distractor3", "correct_answer"),
            text("correct_answer"),
        ),
        "CC-BY-NC-3.0",
        _PUBLIC_TEST,
    ),
    Entry(
        "social_i_qa",
        Hub("lighteval/siqa", "default", _HUB_HIDDEN),
        Layout("{context} {question}", _SIQA_ANSWERS, index("label", first=1)),
        "not stated",
        _HIDDEN_TEST,
    ),
    Entry(
        "winogrande",
        Hub("allenai/winogrande", "winogrande_xl", _HUB_HIDDEN),
        Layout("{sentence}", fields("option1", "option2"), index("answer", first=1)),
        "CC-BY-4.0",
        _HIDDEN_TEST,
    ),
    Entry(
        "truthfulqa_mc1",
        Hub("truthfulqa/truthful_qa", "multiple_choice", {"test": "validation"}),
        Layout(_PLAIN, layouts.truthful, layouts.truthful_answer),
        "Apache-2.0",
        {"test": ("all", *_VALIDATION)},
    ),
    *(_anli(round) for round in (1, 2, 3)),
    Entry(
        "cb",
        Hub("aps/super_glue", "cb", _HUB_HIDDEN),
        Layout(_NLI, fixed("Yes", "No", _UNSURE), index("label")),
        "not stated",
        _HIDDEN_TEST,
    ),
    Entry(
        "copa",
        Hub("aps/super_glue", "copa", _HUB_HIDDEN),
        Layout(
            "{premise}\nWhat was the {question} of this?",
            fields("choice1", "choice2"),
            index("label"),
        ),
        "BSD-2-Clause",
        _HIDDEN_TEST,
        closed=True,
    ),
    Entry(
        "multirc",
        Hub("aps/super_glue", "multirc", _HUB_HIDDEN),
        Layout(
            "{paragraph}\n\n{question}\nIs this answer right: {answer}",
            fixed("No", "Yes"),
            index("label"),
        ),
        "not stated",
        _HIDDEN_TEST,
    ),
    Entry(
        "snli",
        Hub("stanfordnlp/snli", "plain_text", _HUB_PUBLIC),
        _ENTAILED_FIRST,
        "CC-BY-SA-4.0",
        _PUBLIC_TEST,
    ),
    Entry(
        "story_cloze",
        None,
        Layout(
            "{InputSentence1} {InputSentence2} {InputSentence3} {InputSentence4}\n"
            "How does the story end?",
            fields("RandomFifthSentenceQuiz1", "RandomFifthSentenceQuiz2"),
            index("AnswerRightEnding", first=1),
            id="story_cloze/{InputStoryid}",
        ),
        "on request",
        {"val": _VALIDATION, "test": ("test",)},
        closed=True,
        on_request="https://cs.rochester.edu/nlp/rocstories",
    ),
    Entry(
        "trec",
        Hub("CogComp/trec", "default", {"train": "train", "test": "test"}),
        Layout(
            "{text}\nWhat kind of answer does this question ask for?",
            _TREC_KINDS,
            index("coarse_label"),
        ),
        "not stated",
        _TRAIN_ONLY,
        closed=True,
    ),
    Entry(
        "wsc",
        Hub("ErnestSDavis/winograd_wsc", "wsc285", {"test": "test"}),
        Layout(
            '{text}\nWho or what is meant by "{pronoun}"?',
            listed("options"),
            index("label"),
        ),
        "CC-BY-4.0",
        {"test": ("all", "test")},
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
