"""Questions: the quickstart quiz, MMLU and the other known sets, and files of the user's own.

open_set ──► QuestionSet ──► select / mix / without / hold_out ──► list[Question]
"""

from __future__ import annotations

from howsure.questions.catalogue import CATALOGUE, SPLITS, SplitName
from howsure.questions.files import Excluded, read_file, write_file
from howsure.questions.sampling import (
    Leaked,
    bare_text,
    hold_out,
    mix,
    normalised_text,
    select,
    training_questions,
    without,
)
from howsure.questions.sets import QUICKSTART, QuestionSet, open_set, quickstart

__all__ = [
    "CATALOGUE",
    "QUICKSTART",
    "SPLITS",
    "Excluded",
    "Leaked",
    "QuestionSet",
    "SplitName",
    "bare_text",
    "hold_out",
    "mix",
    "normalised_text",
    "open_set",
    "quickstart",
    "read_file",
    "select",
    "training_questions",
    "without",
    "write_file",
]
