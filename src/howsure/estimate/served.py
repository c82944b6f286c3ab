"""What a model on a server would be asked: requests, and tokens there and back."""

from __future__ import annotations

from dataclasses import dataclass

from howsure.answers import MAX_TOKENS
from howsure.api import parse
from howsure.estimate import lengths
from howsure.estimate.lengths import Counter
from howsure.plan import Plan
from howsure.prompts import CORRECTNESS_QUERY
from howsure.spec import RunSpec
from howsure.types import Format


@dataclass(frozen=True, slots=True)
class ServedCost:
    """One model on a server in one format. Each request sends its whole prompt."""

    model: str
    format: Format
    requests: int
    sent: int
    """Tokens of the prompts, told from their bytes: a server shows no tokenizer."""
    received: int
    """Tokens of the replies at most."""


def of_served(spec: RunSpec, plan: Plan | None, model: str, format: Format) -> ServedCost:
    """Answers to all questions, and the correctness query where it is asked."""
    letters = format == "choice"
    count = Counter(None, letters)
    if plan is None:
        splits = lengths.published(spec, format, letters)
    else:
        splits = lengths.of_plan(spec, plan, format, letters, count)
    query = int(count([CORRECTNESS_QUERY])[0])
    asked = set()
    if "zero_shot" in spec.methods:
        asked = {"test"} if spec.calibrate == "none" else {"test", "validation"}
    requests = sent = received = 0
    for split, texts in splits.items():
        n, prompts = len(texts), int(texts.before.sum() + texts.questions.sum())
        requests, sent = requests + n, sent + prompts
        received += n * (1 if letters else MAX_TOKENS)
        if split in asked:
            requests, received = requests + n, received + n
            sent += prompts + int(texts.answers.sum()) + n * query
    return ServedCost(parse(model).name, format, requests, sent, received)
