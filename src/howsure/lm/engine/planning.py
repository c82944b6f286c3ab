"""From passages to token sequences, and where in them the wanted rows are."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from howsure.errors import ModelError
from howsure.lm.engine.tree import Ask, Branch, common_prefix
from howsure.lm.passage import Passage, Place
from howsure.lm.tokens import Tokens

_BLOCK = (512, 2048)
"""Passages that are tokenised and read together: at least, as far as there are so many; at most."""

_BLOCK_CHARACTERS = 4_000_000
"""Of the texts of a block: longer ones make smaller blocks, so that memory hangs on neither."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The sequences to read for some passages."""

    asks: list[Ask]
    owners: list[int]
    """Per ask: whose it is, as an index into the passages; in ascending order."""
    places: list[dict[Place, tuple[int, int]]]
    """Per passage: place → (ask, position)."""
    answers: list[tuple[int, int, int]]
    """Per passage: (ask, first, end) of the answer's own tokens; empty when not wanted."""

    def of(self, passages: Iterable[int]) -> Plan:
        """The plan of some of the passages alone, in this order."""
        some = Plan([], [], [], [])
        for i, passage in enumerate(passages):
            # A passage's asks stand together.
            first = bisect_left(self.owners, passage)
            mine = self.asks[first : bisect_right(self.owners, passage)]
            shift = len(some.asks) - first
            some.asks.extend(mine)
            some.owners.extend([i] * len(mine))
            places = self.places[passage].items()
            some.places.append({place: (ask + shift, at) for place, (ask, at) in places})
            if self.answers:
                ask, start, end = self.answers[passage]
                some.answers.append((ask + shift, start, end))
        return some


def plan(
    tokens: Tokens,
    passages: Sequence[Passage],
    places: Sequence[Place],
    *,
    answer_tokens: bool,
    limit: int,
) -> Plan:
    """Tokenise each text up to each place; texts that begin alike as tokens share a sequence.

    Text prefixes need not be token prefixes, so each place is found in tokens, never assumed.
    With `answer_tokens` the rows that predict the answer's tokens are wanted too. Raises ModelError
    when a text is longer than `limit` tokens.
    """
    wanted = set(places) | ({Place.QUESTION, Place.ANSWER} if answer_tokens else set())
    order = [p for p in (Place.QUERY, Place.ANSWER, Place.QUESTION) if p in wanted]
    prefixes = list({p.prefix: None for p in passages})
    stems = {p: array("i", ids) for p, ids in zip(prefixes, tokens.encode(prefixes), strict=True)}
    made = Plan([], [], [], [])
    rows = zip(*(tokens.encoded(_texts(passages, at)) for at in order), strict=True)
    for i, (passage, row) in enumerate(zip(passages, rows, strict=True)):
        encoded = {place: array("i", ids) for place, ids in zip(order, row, strict=True)}
        own: list[array[int]] = []
        at: list[set[int]] = []
        found: dict[Place, tuple[int, int]] = {}
        for place in order:
            ids = encoded[place]
            if len(ids) > limit:
                raise _too_long(passage.upto(place), len(ids), limit)
            home = next((s for s, o in enumerate(own) if common_prefix(o, ids) == len(ids)), None)
            if home is None:
                home = len(own)
                own.append(ids)
                at.append(set())
            found[place] = (home, len(ids) - 1)
        for place in places:
            home, position = found[place]
            at[home].add(position)
        before = len(made.asks)
        if answer_tokens:
            home, last = found[Place.ANSWER]
            first = common_prefix(encoded[Place.QUESTION], own[home])
            made.answers.append((before + home, first, last + 1))
            at[home].update(range(first - 1, last))
        made.places.append({p: (before + home, position) for p, (home, position) in found.items()})
        stem = stems[passage.prefix]
        for ids, wanted_here in zip(own, at, strict=True):
            shared = common_prefix(stem, ids)
            branch = Branch(stem, shared, ids[shared:])
            made.asks.append(Ask(branch, tuple(sorted(wanted_here)), shared))
            made.owners.append(i)
    return made


def _texts(passages: Sequence[Passage], place: Place) -> Iterator[str]:
    for passage in passages:
        yield passage.upto(place)


def _too_long(text: str, length: int, limit: int) -> ModelError:
    return ModelError(
        f"a prompt has {length} tokens but the model takes at most {limit}; use fewer --shots (the "
        f"text begins {text[:60]!r})"
    )


def blocks(passages: Sequence[Passage]) -> Iterator[list[int]]:
    """Indices of passages to read together: what has a prefix in common stays together.

    Only one block is tokenised at a time, so memory does not grow with the number of passages.
    """
    least, most = _BLOCK
    order = sorted(range(len(passages)), key=lambda i: passages[i].prefix)
    block: list[int] = []
    characters = 0
    for _, group in groupby(order, key=lambda i: passages[i].prefix):
        for i in group:
            block.append(i)
            characters += len(passages[i].upto(Place.QUERY))
            if len(block) == most or characters >= _BLOCK_CHARACTERS:
                yield block
                block, characters = [], 0
        if len(block) >= least:
            yield block
            block, characters = [], 0
    if block:
        yield block


def batches_by_length(lengths: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Indices in batches of like length; rows × longest stays within `budget` tokens."""
    order = sorted(range(len(lengths)), key=lambda i: lengths[i])
    batch: list[int] = []
    for i in order:
        if batch and lengths[i] * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
