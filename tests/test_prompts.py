"""The prompts, character for character.

Origin of the texts: written out from the templates of the code released with Kapoor et al. 2024
(format_sample, format_sample_prompt, LMText and prepare_uncertainty_query). That code itself, run
on 3,533 MMLU questions in both formats with 0 and 5 examples, gave the same 14,132 prompts and
queries as ours.
"""

from __future__ import annotations

import pytest

from howsure.errors import QuestionError
from howsure.prompts import (
    CORRECTNESS_QUERY,
    QUERY_OPTIONS,
    answer_text,
    correctness_query,
    few_shot_prefix,
    question_prompt,
)
from howsure.types import Question


def ask(text: str, choices: tuple[str, ...], right: int) -> Question:
    return Question(
        id=text, subject="us_foreign_policy", text=text, reference=choices[right], choices=choices
    )


RIVER = ask("Which river is the longest?", ("Rhine", "Nile", "Main", "Po"), 1)
EXAMPLES = (
    ask("One?", ("a1", "b1", "c1", "d1"), 0),
    ask("Two,\nin two lines?", ("a2", "b2", "c2", "d2"), 1),
    # White space: kept inside the question and between options, dropped after the example's answer.
    ask(" Three? ", ("a3", "b3", "c3 ", "d3"), 2),
    ask("Four?", ("a4", "b4", "c4", " d4"), 3),
    ask("Five?", ("a5", "b5", "c5", "d5"), 0),
)

CHOICE_0 = """\
Question:
Which river is the longest?

Choices:
  (a): Rhine
  (b): Nile
  (c): Main
  (d): Po
Answer:"""

OPEN_0 = """\
Question: Which river is the longest?
Answer:"""

CHOICE_5 = """\
The following are multiple-choice questions (with answers) about Us foreign policy.

Question:
One?

Choices:
  (a): a1
  (b): b1
  (c): c1
  (d): d1
Answer: a

Question:
Two,
in two lines?

Choices:
  (a): a2
  (b): b2
  (c): c2
  (d): d2
Answer: b

Question:
 Three?\x20

Choices:
  (a): a3
  (b): b3
  (c): c3\x20
  (d): d3
Answer: c

Question:
Four?

Choices:
  (a): a4
  (b): b4
  (c): c4
  (d):  d4
Answer: d

Question:
Five?

Choices:
  (a): a5
  (b): b5
  (c): c5
  (d): d5
Answer: a

Now, answer the next question.

"""

OPEN_5 = """\
The following are questions (with answers) about Us foreign policy.

Question: One?
Answer: a1

Question: Two,
in two lines?
Answer: b2

Question:  Three?\x20
Answer: c3

Question: Four?
Answer:  d4

Question: Five?
Answer: a5

Now, answer the next question.

"""

QUERY = """\
Question: Which river is the longest?
Answer: the Nile

Is the proposed answer correct?
Choices:
(i): no
(ii): yes
Answer:"""


@pytest.mark.parametrize(("options", "zero_shot"), [(True, CHOICE_0), (False, OPEN_0)])
def test_question_prompt(options: bool, zero_shot: str) -> None:
    assert question_prompt(RIVER, options=options) == zero_shot


@pytest.mark.parametrize(("options", "five_shot"), [(True, CHOICE_5), (False, OPEN_5)])
def test_few_shot_prefix(options: bool, five_shot: str) -> None:
    assert few_shot_prefix("us_foreign_policy", EXAMPLES, options=options) == five_shot


@pytest.mark.parametrize("options", [True, False])
def test_no_examples_no_prefix(options: bool) -> None:
    assert few_shot_prefix("us_foreign_policy", (), options=options) == ""


def test_correctness_query() -> None:
    assert correctness_query(OPEN_0, "the Nile") == QUERY
    assert QUERY.endswith(CORRECTNESS_QUERY)
    assert QUERY_OPTIONS == ("i", "ii")


def test_answer_text_is_the_letter_or_the_text() -> None:
    assert answer_text(RIVER, options=True) == "b"
    assert answer_text(RIVER, options=False) == "Nile"


def test_letters_reach_as_far_as_the_choices() -> None:
    ten = ask("Which?", tuple(f"option {i}" for i in range(10)), 9)
    assert question_prompt(ten, options=True).endswith("  (j): option 9\nAnswer:")
    assert answer_text(ten, options=True) == "j"


def test_open_questions_have_no_letter() -> None:
    open_ended = Question(id="q", subject="s", text="Who?", reference="Me")
    assert question_prompt(open_ended, options=False) == "Question: Who?\nAnswer:"
    with pytest.raises(QuestionError, match="no choices"):
        answer_text(open_ended, options=True)
