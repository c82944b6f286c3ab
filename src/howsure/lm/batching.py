"""The plain path: whole sequences, padded on the right, one forward pass per batch.

Obviously right rather than fast: a causal model never looks at what stands behind a token, so
padding on the right changes nothing that is read, whatever the attention window.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from howsure.errors import ModelError
from howsure.lm.passage import Passage, Place
from howsure.lm.tokens import Tokens, common_prefix


@dataclass(frozen=True, slots=True)
class Plan:
    """The sequences to read, and where in them the wanted rows are."""

    sequences: list[list[int]]
    rows: list[dict[Place, tuple[int, int]]]
    """Per passage: place → (sequence, position)."""
    answers: list[tuple[int, int, int]]
    """Per passage: (sequence, first, end) of the answer's own tokens; empty when not wanted."""


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
    Raises ModelError when a text is longer than `limit` tokens.
    """
    wanted = set(places) | ({Place.QUESTION, Place.ANSWER} if answer_tokens else set())
    order = [p for p in (Place.QUERY, Place.ANSWER, Place.QUESTION) if p in wanted]
    encoded = {place: tokens.encode([p.upto(place) for p in passages]) for place in order}
    sequences: list[list[int]] = []
    rows: list[dict[Place, tuple[int, int]]] = []
    answers: list[tuple[int, int, int]] = []
    for i, passage in enumerate(passages):
        own: list[int] = []
        found: dict[Place, tuple[int, int]] = {}
        for place in order:
            ids = encoded[place][i]
            if len(ids) > limit:
                raise ModelError(
                    f"a prompt has {len(ids)} tokens but the model takes at most {limit}; use "
                    f"fewer --shots (the text begins {passage.upto(place)[:60]!r})"
                )
            home = next((s for s in own if common_prefix(sequences[s], ids) == len(ids)), None)
            if home is None:
                home = len(sequences)
                sequences.append(ids)
                own.append(home)
            found[place] = (home, len(ids) - 1)
        rows.append(found)
        if answer_tokens:
            home, last = found[Place.ANSWER]
            first = common_prefix(encoded[Place.QUESTION][i], sequences[home])
            answers.append((home, first, last + 1))
    return Plan(sequences, rows, answers)


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
