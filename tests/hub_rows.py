"""One row of each known set as the Hub has it, field for field, and the question it should be.

The fields and their types are those on the sets' cards; the texts are ours.
"""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]
LETTERED = {"label": ["A", "B", "C", "D"], "text": ["w", "x", "y", "z"]}
NUMBERED = {"label": ["1", "2", "3"], "text": ["x", "y", "z"]}
NLI = (
    "Premise: p\nHypothesis: h\n"
    "Is the hypothesis true, given the premise? Yes, no, or impossible to say?"
)
UNSURE = "It's impossible to say"
ENTAILMENT = ("Yes", UNSURE, "No")


def anli(uid: str) -> tuple[Row, str, tuple[str, ...], str]:
    row = {"uid": uid, "premise": "p", "hypothesis": "h", "label": 2, "reason": "because"}
    return row, NLI, ENTAILMENT, "No"


HUB_ROWS: dict[str, tuple[Row, str, tuple[str, ...], str]] = {
    "mmlu": (
        {"question": "q", "subject": "anatomy", "choices": ["w", "x", "y", "z"], "answer": 1},
        "q",
        ("w", "x", "y", "z"),
        "x",
    ),
    "mmlu_pro": (
        {
            "question_id": 70,
            "question": "q",
            "options": ["x", "y", "z"],
            "answer": "C",
            "answer_index": 2,
            "cot_content": "A: ...",
            "category": "law",
            "src": "ori_mmlu-law",
        },
        "q",
        ("x", "y", "z"),
        "z",
    ),
    "arc_easy": (
        {"id": "M1", "question": "q", "choices": NUMBERED, "answerKey": "2"},
        "q",
        ("x", "y", "z"),
        "y",
    ),
    "arc_challenge": (
        {"id": "M2", "question": "q", "choices": LETTERED, "answerKey": "D"},
        "q",
        ("w", "x", "y", "z"),
        "z",
    ),
    "openbookqa": (
        {"id": "7-980", "question_stem": "q", "choices": LETTERED, "answerKey": "A"},
        "q",
        ("w", "x", "y", "z"),
        "w",
    ),
    "boolq": (
        {"question": "is it so", "answer": True, "passage": "p."},
        "p.\n\nis it so?",
        ("False", "True"),
        "True",
    ),
    "boolq_no_passage": (
        {"question": "q", "answer": False, "passage": "p"},
        "q",
        ("false", "true"),
        "false",
    ),
    "commonsense_qa": (
        {
            "id": "1afa",
            "question": "q",
            "question_concept": "c",
            "choices": {"label": ["A", "B", "C", "D", "E"], "text": ["v", "w", "x", "y", "z"]},
            "answerKey": "E",
        },
        "q",
        ("v", "w", "x", "y", "z"),
        "z",
    ),
    "cosmos_qa": (
        {
            "id": "3B/0",
            "context": "c",
            "question": "q",
            "answer0": "w",
            "answer1": "x",
            "answer2": "y",
            "answer3": "z",
            "label": 0,
        },
        "c\n\nq",
        ("w", "x", "y", "z"),
        "w",
    ),
    "hellaswag": (
        {
            "ind": 4,
            "activity_label": "Sailing",
            "ctx_a": "A boat leaves.",
            "ctx_b": "the crew",
            "ctx": "A boat leaves. the crew",
            "endings": ["w", "x", "y", "z"],
            "source_id": "activitynet~v_1",
            "split": "val",
            "split_type": "indomain",
            "label": "3",
        },
        "A boat leaves. the crew\nHow does this go on?",
        ("w", "x", "y", "z"),
        "z",
    ),
    "math_qa": (
        {
            "Problem": "q ?",
            "Rationale": "r",
            "options": "a ) rs . 1 , 500 , b ) 27.675 , c ) 30 , d ) data inadequate , e ) none",
            "correct": "a",
            "annotated_formula": "divide(n0, n1)",
            "linear_formula": "divide(n0,n1)|",
            "category": "general",
        },
        "q ?",
        ("rs . 1 , 500", "27.675", "30", "data inadequate", "none"),
        "rs . 1 , 500",
    ),
    "piqa": ({"goal": "q", "sol1": "x", "sol2": "y", "label": 1}, "q", ("x", "y"), "y"),
    "sciq": (
        {
            "question": "q",
            "distractor3": "x",
            "distractor1": "z",
            "distractor2": "w",
            "correct_answer": "y",
            "support": "",
        },
        "q",
        ("w", "x", "y", "z"),
        "y",
    ),
    "social_i_qa": (
        {
            "context": "c",
            "question": "q",
            "answerA": "x",
            "answerB": "y",
            "answerC": "z",
            "label": "3",
        },
        "c q",
        ("x", "y", "z"),
        "z",
    ),
    "winogrande": (
        {"sentence": "q _", "option1": "x", "option2": "y", "answer": "1"},
        "q _",
        ("x", "y"),
        "x",
    ),
    "truthfulqa_mc1": (
        {
            "question": "q",
            "mc1_targets": {"choices": ["y", "x"], "labels": [1, 0]},
            "mc2_targets": {"choices": ["y", "z", "x"], "labels": [1, 1, 0]},
        },
        "q",
        ("x", "y"),
        "y",
    ),
    "anli_r1": anli("r1"),
    "anli_r2": anli("r2"),
    "anli_r3": anli("r3"),
    "cb": (
        {"premise": "p", "hypothesis": "h", "idx": 0, "label": 1},
        NLI,
        ("Yes", "No", UNSURE),
        "No",
    ),
    "copa": (
        {
            "premise": "p.",
            "choice1": "x",
            "choice2": "y",
            "question": "effect",
            "idx": 0,
            "label": 1,
        },
        "p.\nWhat was the effect of this?",
        ("x", "y"),
        "y",
    ),
    "multirc": (
        {
            "paragraph": "p",
            "question": "q?",
            "answer": "a",
            "idx": {"paragraph": 0, "question": 0, "answer": 0},
            "label": 0,
        },
        "p\n\nq?\nIs this answer right: a",
        ("No", "Yes"),
        "No",
    ),
    "snli": ({"premise": "p", "hypothesis": "h", "label": 1}, NLI, ENTAILMENT, UNSURE),
    "trec": (
        {"text": "Who ?", "coarse_label": 3, "fine_label": 28},
        "Who ?\nWhat kind of answer does this question ask for?",
        (
            "Abbreviation",
            "Entity",
            "Description and abstract concept",
            "Human being",
            "Location",
            "Numeric value",
        ),
        "Human being",
    ),
    "wsc": (
        {
            "text": "The city refused the crowd because they feared it.",
            "pronoun": "they",
            "pronoun_loc": 35,
            "quote": "they feared it",
            "quote_loc": 35,
            "options": ["The city", "The crowd"],
            "label": 0,
            "source": "(Winograd 1972)",
        },
        'The city refused the crowd because they feared it.\nWho or what is meant by "they"?',
        ("The city", "The crowd"),
        "The city",
    ),
}
