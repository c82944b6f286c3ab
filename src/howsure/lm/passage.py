"""What a method asks of a language model: which rows of which texts. No torch in here.

A passage is a text in four named parts, each read as the continuation of the one before:

    prefix ────── question ────── answer ────── query
    shared by     "… Answer:"     " Paris"      "… Is the proposed answer correct? … Answer:"
    the subject

A `Place` names the last token of a part. What can be wanted there is a `Want`. How the rows are
computed (padded batches, shared prefixes, one pass or several) is the engine's affair alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

from howsure.prompts import CORRECTNESS_QUERY, plain
from howsure.types import Answer


class Place(Enum):
    """The last token of a part of the passage."""

    QUESTION = "question"
    ANSWER = "answer"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class Passage:
    """A text in its named parts; later parts may be empty."""

    prefix: str
    question: str
    answer: str = ""
    query: str = ""
    lead: str = " "
    """What the answer's text follows after; the first part of `answer`."""

    @classmethod
    def of(cls, answer: Answer) -> Passage:
        """The whole passage of a given answer, up to the correctness query."""
        return cls(
            prefix=answer.prefix,
            question=answer.prompt[len(answer.prefix) :],
            answer=answer.lead + plain(answer.text),
            query=CORRECTNESS_QUERY if answer.query is None else answer.query,
        )

    def upto(self, place: Place) -> str:
        """The text whose last token is the place."""
        text = self.prefix + self.question
        if place is Place.QUESTION:
            return text
        text += self.answer
        return text if place is Place.ANSWER else text + self.query


@dataclass(frozen=True, slots=True)
class Hidden:
    """The hidden state at a place: (n, hidden size), float32. Layer -1 is after the final norm."""

    place: Place
    layer: int = -1


@dataclass(frozen=True, slots=True)
class Options:
    """Log-probabilities, over the whole vocabulary, of single-token continuations " " + option.

    (n, options), float32, each <= 0. Raises ModelError if an option is not one token of its own.
    """

    place: Place
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AnswerTokens:
    """Log-probability of the answer part after the question: (n, 2), its sum and token count."""


Want = Hidden | Options | AnswerTokens

Next = Literal["nothing", "read", "generate"]
"""What will be asked about passages once they are read: how much of them must be kept."""


@dataclass(frozen=True, slots=True)
class Generation:
    """A greedy continuation. `log_probability` sums over its `tokens` tokens, without the stop;
    an empty continuation has the stop's own log-probability and `tokens == 1`."""

    text: str
    log_probability: float | None
    """None where a server does not tell it."""
    tokens: int
