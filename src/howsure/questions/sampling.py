"""Which questions to take: by subject, mixed over sets, held out, without leaks."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from howsure.errors import QuestionError, UnknownName, UsageError
from howsure.questions.catalogue import SplitName
from howsure.questions.files import Part
from howsure.questions.sets import QuestionSet
from howsure.types import Question

HOLD_OUT_SHARES: dict[SplitName, float] = {"train": 0.4, "val": 0.1, "test": 0.5}

_EDGES = " .,;:!?\"'`"


def select(
    questions: Sequence[Question],
    subjects: Sequence[str] = (),
    limit: int | None = None,
    seed: int = 0,
) -> list[Question]:
    """The questions of the subjects (all when there are none named), at most `limit` of each.

    Which ones stay is drawn by `seed` for each subject by itself; a smaller limit takes a part of
    what a larger one takes. The order stays. Raises UnknownName for a subject that isn't there.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit}: at least one question per subject is needed")
    of_subject: dict[str, list[int]] = {}
    for i, question in enumerate(questions):
        of_subject.setdefault(question.subject, []).append(i)
    for subject in subjects:
        if subject not in of_subject:
            raise UnknownName("subject", subject, of_subject)
    kept: list[int] = []
    for subject in subjects or of_subject:
        kept += _draw(of_subject[subject], limit, Random(f"{seed}/{subject}"))
    return [questions[i] for i in sorted(set(kept))]


def training_questions(source: QuestionSet) -> tuple[list[Question], str]:
    """The questions that a set gives for training, and a note ("" when there is nothing to say).

    They are its `train` split, or else the one it has: then the note says which.
    """
    order: tuple[SplitName, ...] = ("train", "val", "dev", "test")
    split = next((s for s in order if source.has(s)), None)
    if split is None:
        raise QuestionError(f"question set {source.name!r} is empty; it can't be trained on")
    note = "" if split == "train" else f"{source.name} has no train split here: {split} is used"
    return source.load(split), note


def mix(
    sets: Mapping[str, Sequence[Question]], size: int | None = None, *, seed: int = 0
) -> list[Question]:
    """`size` questions drawn alike from all sets (name → questions), in random order.

    A set smaller than its share gives all it has and the others make up for it; when all together
    have fewer than `size` (or it is None), all are taken. Raises QuestionError for an id that
    occurs twice, within a set or between two.
    """
    if size is not None and size < 1:
        raise UsageError(f"--train-size {size}: at least one training question is needed")
    _refuse_repeated_ids(sets)
    shares = _equal_shares([len(questions) for questions in sets.values()], size)
    drawn: list[Question] = []
    for (name, questions), share in zip(sets.items(), shares, strict=True):
        rng = Random(f"{seed}/mix/{name}")
        drawn += [questions[i] for i in _draw(range(len(questions)), share, rng)]
    Random(f"{seed}/mix").shuffle(drawn)
    return drawn


@dataclass(frozen=True, slots=True)
class Leaked:
    """How many training questions of one set were left out because they are evaluated."""

    same: int
    """Equal by `normalised_text`."""
    alike: int
    """Not equal, but equal by `bare_text`."""

    @property
    def total(self) -> int:
        return self.same + self.alike


def without(
    questions: Sequence[Question], evaluated: Sequence[Question]
) -> tuple[list[Question], Leaked]:
    """The questions whose text is not among those evaluated, and how many were left out.

    Texts are compared by `normalised_text` and by `bare_text`, whatever the choices: rather one
    question too many left out than one leaked. A question that is told in other words is not found.
    """
    same = {normalised_text(q.text) for q in evaluated}
    alike = {bare_text(q.text) for q in evaluated} - {""}
    kept: list[Question] = []
    counts: Counter[str] = Counter()
    for question in questions:
        if normalised_text(question.text) in same:
            counts["same"] += 1
        elif bare_text(question.text) in alike:
            counts["alike"] += 1
        else:
            kept.append(question)
    return kept, Leaked(counts["same"], counts["alike"])


def hold_out(source: QuestionSet) -> QuestionSet:
    """The same questions split into train (40%), val (10%) and test (50%), for a set of one split.

    The split follows from a hash of each question's normalised text, so that it stays when
    questions are added or reordered, and equal questions end up together. All splits of the source
    but `dev`, which stays, are pooled first. Raises QuestionError when a split would be empty.
    """
    pool: list[Question] = []
    for split in HOLD_OUT_SHARES:
        pool += source.load(split) if source.has(split) else []
    held: dict[SplitName, list[Question]] = {split: [] for split in HOLD_OUT_SHARES}
    for question in pool:
        held[_share_of(question.text)].append(question)
    origin = f"held out of {source.name}"
    empty = [split for split, questions in held.items() if not questions]
    if empty:
        raise QuestionError(
            f"question set {source.name!r}: of its {len(pool)} questions none falls into "
            f"{' or '.join(empty)} when they are split 40/10/50 into train, val and test; "
            "give more questions, or pass --train-questions"
        )
    left_out = tuple(e for s in HOLD_OUT_SHARES if source.has(s) for e in source.excluded(s))
    parts: dict[SplitName, Callable[[], Part]] = {
        split: partial(Part, tuple(questions), left_out if split == "test" else (), origin)
        for split, questions in held.items()
    }
    if source.has("dev"):
        parts["dev"] = source.parts["dev"]
    sizes = ", ".join(f"{split} {len(questions)}" for split, questions in held.items())
    note = f"{source.name} was split by a hash of each question's text: {sizes}"
    return replace(source, parts=parts, notes=(*source.notes, note))


def normalised_text(text: str) -> str:
    """The text by which two questions count as the same one.

    Compatibility forms unified (NFKC), case folded, white space collapsed, punctuation and quotes
    at both ends dropped.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split()).strip(_EDGES)


def bare_text(text: str) -> str:
    """`normalised_text` without white space and without punctuation that carries no meaning.

    Signs stay ("5 + 3" and "5 < 3" are two questions), and so do brackets and what stands between
    two digits (3.5 is not 35).
    """
    plain = normalised_text(text)
    bare = "".join(
        c for i, c in enumerate(plain) if not _is_mark(c) or _is_between_digits(plain, i)
    )
    # What is left may compose anew, as "A" does with an accent that a space stood before.
    return bare if bare == text or bare.isascii() else bare_text(bare)


def _is_mark(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] in "PZ" and category not in ("Ps", "Pe")


def _is_between_digits(text: str, i: int) -> bool:
    return 0 < i < len(text) - 1 and text[i - 1].isdigit() and text[i + 1].isdigit()


def _share_of(text: str) -> SplitName:
    digest = hashlib.blake2b(normalised_text(text).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "big") / 2**64
    if share < HOLD_OUT_SHARES["train"]:
        return "train"
    return "val" if share < HOLD_OUT_SHARES["train"] + HOLD_OUT_SHARES["val"] else "test"


def _draw(indices: Sequence[int], count: int | None, rng: Random) -> list[int]:
    """`count` of the indices (all when None or fewer), in random order."""
    shuffled = list(indices)
    rng.shuffle(shuffled)
    return shuffled if count is None else shuffled[:count]


def _equal_shares(sizes: Sequence[int], total: int | None) -> list[int]:
    """How many to take of each: as equal as the sizes allow, `total` together where they can."""
    left = sum(sizes) if total is None else min(total, sum(sizes))
    shares = [0] * len(sizes)
    for rank, i in enumerate(sorted(range(len(sizes)), key=lambda i: sizes[i])):
        shares[i] = min(sizes[i], left // (len(sizes) - rank))
        left -= shares[i]
    return shares


def _refuse_repeated_ids(sets: Mapping[str, Sequence[Question]]) -> None:
    owner: dict[str, str] = {}
    for name, questions in sets.items():
        for question in questions:
            if question.id in owner:
                raise QuestionError(
                    f"training set {name!r}: the id {question.id!r} is also in "
                    f"{owner[question.id]!r}; give each set once, with ids of its own"
                )
            owner[question.id] = name
