"""Wrong options that are mistakes: what one writes after a slip in the reasoning.

A forgotten carry, the neighbour in the table, a letter left out, the wrong way round. Each function
takes `(rng, text, answer)` and returns mistakes of its subject, those to be preferred first. They
follow from the question's text, so that the questions themselves don't hang on them. One may happen
to be the right answer or to repeat another: `three` sorts those out.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from random import Random

from howsure.grading import normalise
from howsure.questions.quiz import facts, skills
from howsure.questions.quiz.skills import roman


def three(
    subject: str, text: str, answer: str, slips: Iterable[str], rng: Random
) -> tuple[str, str, str]:
    """Three wrong options for a question of the subject, which differ however they are written.

    Where the subject has too few mistakes, `slips` fill up: three texts that aren't the answer.
    """
    seen, wrong = {normalise(answer)}, []
    for mistake in (*_MISTAKES[subject](rng, text, answer), *slips):
        if normalise(mistake) not in seen:
            seen.add(normalise(mistake))
            wrong.append(mistake)
        if len(wrong) == 3:
            break
    first, second, third = wrong
    return first, second, third


def _numbers(text: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", text)]


def _mixed(rng: Random, mistakes: Iterable[str]) -> list[str]:
    """In a random order."""
    pool = list(mistakes)
    return rng.sample(pool, len(pool))


def _written(rng: Random, values: Iterable[int], floor: int = 0) -> list[str]:
    """Those numbers that are not below the floor, in a random order."""
    return _mixed(rng, (str(v) for v in values if v >= floor))


# arithmetic: the last digit is right more often than the carry ---------------------------------


def _addition(rng: Random, text: str, answer: str) -> list[str]:
    right = int(answer)
    others = [right - 100, right + 100] if right >= 100 else [right - 1, right + 1]
    return _written(rng, [right - 10, right + 10]) + _written(rng, [right - 20, *others])


def _multiplication(rng: Random, text: str, answer: str) -> list[str]:
    a, b = _numbers(text)
    right = a * b
    carry = _written(rng, [right - 20, right - 10, right + 10, right + 20], floor=1)
    next_row = [right - a, right + a, right - b, right + b]
    return carry[:2] + _mixed(rng, [*carry, *map(str, next_row)])


def _division(rng: Random, text: str, answer: str) -> list[str]:
    n, a = _numbers(text)
    right = n // a
    near = [right + d for d in (-10, -5, -4, -2, 2, 4, 5, 10)]
    last_digit_fits = [q for q in near if q * a % 10 == n % 10]
    close = [right - 2, right - 1, right + 1, right + 2]
    return _written(rng, last_digit_fits, floor=1)[:2] + _written(rng, close, floor=1)


def _remainder(rng: Random, text: str, answer: str) -> list[str]:
    a, b = _numbers(text)
    right = a % b
    if b == 100:
        return _written(rng, [right - 10, right - 1, right + 1, right + 10, a // 10])
    by_two = [r for r in (right - 2, right + 2) if r < b]
    near = [r for r in (right - 4, right - 1, right + 1) if r < b]
    mixed_up = [b - right, a // b % 10, a % 10]
    return _written(rng, by_two) + _written(rng, near) + _written(rng, mixed_up)


def _rounding(rng: Random, text: str, answer: str) -> list[str]:
    n, to = _numbers(text)
    right, below = int(answer), n // to * to
    other_way = below if right != below else below + to
    coarser = (n + 5 * to) // (10 * to) * 10 * to
    finer = (n + to // 20) // (to // 10) * (to // 10)
    zeros = _written(rng, [right // 10, right * 10], floor=1)
    return [str(other_way), *zeros[:1], *_written(rng, [coarser, finer], floor=1), *zeros]


# numbers ---------------------------------------------------------------------------------------


def _largest(rng: Random, text: str, answer: str) -> list[str]:
    others = [str(v) for v in _numbers(text) if str(v) != answer]
    others.sort(key=lambda other: abs(int(other) - int(answer)))
    slipped = [
        answer[:i] + digit + answer[i + 1 :]
        for i, digit in enumerate(others[0][: len(answer)])
        if i > 0
    ]
    return [*others[:2], *_mixed(rng, (s for s in slipped if s != answer))[:1], *others]


def _digit_sum(rng: Random, text: str, answer: str) -> list[str]:
    right = int(answer)
    skipped = right - int(rng.choice(str(_numbers(text)[0])))
    others = [right - 2, right + 2, skipped]
    return _written(rng, [right - 1, right + 1]) + _written(rng, others, floor=1)


def _common_divisor(rng: Random, text: str, answer: str) -> list[str]:
    a, b = _numbers(text)
    right = math.gcd(a, b)
    not_greatest = [d for d in range(1, right) if right % d == 0]
    of_one = [d for d in range(2, max(a, b) + 1) if (a % d == 0) != (b % d == 0)]
    return [
        *_written(rng, not_greatest)[:2],
        *_written(rng, of_one)[:2],
        *_written(rng, [right + 1, 2 * right, 3 * right]),
    ]


_SMALL_PRIMES = (2, 3, 5, 7, 11, 13)


def _prime_factor(rng: Random, text: str, answer: str) -> list[str]:
    n, right = _numbers(text)[0], int(answer)
    not_smallest = [p for p in _SMALL_PRIMES if p > right and n % p == 0]
    small = [p for p in _SMALL_PRIMES if right < n or p > 2]
    return [*("3", str(n)), *map(str, not_smallest[:1]), *_written(rng, small)]


def _sequences(rng: Random, text: str, answer: str) -> list[str]:
    *_, before, last = _numbers(text)
    right, step = int(answer), last - before
    others = [right - 2, right + 2, right + step, last + step]
    return _written(rng, [right - 10, right + 10]) + _written(rng, others)


# notation --------------------------------------------------------------------------------------

_MISREAD: dict[int, tuple[int, ...]] = {
    **{1: (2,), 2: (1, 3), 3: (2, 4), 4: (5, 6), 5: (4, 6)},
    **{6: (4, 7), 7: (6, 8), 8: (7, 9), 9: (8, 11)},
}
"""Digit → what its Roman signs are taken for: one sign more or less, or in the other order."""


def _misread(n: int) -> tuple[list[int], list[int]]:
    """Numbers of which one digit is misread: the last that isn't zero, or one before it."""
    by_place = [
        [n + (other - digit) * 10**place for other in _MISREAD[digit]]
        for place, digit in enumerate(map(int, reversed(str(n))))
        if digit
    ]
    return by_place[0], [other for place in by_place[1:] for other in place]


def _to_roman(rng: Random, text: str, answer: str) -> list[str]:
    late, early = _misread(_numbers(text)[0])
    return _mixed(rng, map(roman, late)) + _mixed(rng, (roman(n) for n in early if n < 4000))


def _from_roman(rng: Random, text: str, answer: str) -> list[str]:
    late, early = _misread(int(answer))
    return _written(rng, late) + _written(rng, early)


def _spelled_numbers(rng: Random, text: str, answer: str) -> list[str]:
    inner = range(1, len(answer) - 1)
    left_out = [answer[:i] + answer[i + 1 :] for i in inner]
    swapped = [answer[:i] + answer[i + 1] + answer[i] + answer[i + 2 :] for i in inner]
    one_zero_more = [answer[:i] + "0" + answer[i:] for i in range(1, len(answer))]
    return [
        *_mixed(rng, left_out[-2:])[:1],
        *_mixed(rng, swapped)[:1],
        *_mixed(rng, [*one_zero_more, *left_out]),
    ]


# letters ---------------------------------------------------------------------------------------


def _alphabet(rng: Random, text: str, answer: str) -> list[str]:
    def distance(letter: str) -> int:
        return abs(ord(letter) - ord(answer))

    listed = text.removesuffix("?").split(": ")[1].split(", ")
    return sorted(listed, key=distance) + sorted(skills._ALPHABET, key=distance)


def _in_order(rng: Random, text: str, answer: str) -> list[str]:
    """In the second half two neighbours are swapped, one letter is left out, or written twice."""
    right = answer.split()
    late = range(max(1, len(right) // 2), len(right))
    swapped = [[*right[: i - 1], right[i], right[i - 1], *right[i + 1 :]] for i in late]
    left_out = [[*right[:i], *right[i + 1 :]] for i in late]
    twice = [[*right[:i], right[i], *right[i:]] for i in late]
    return [
        *_mixed(rng, map(" ".join, swapped))[:1],
        *_mixed(rng, map(" ".join, left_out))[:1],
        *_mixed(rng, map(" ".join, swapped + left_out + twice)),
    ]


# time and measures -----------------------------------------------------------------------------


def _weekdays(rng: Random, text: str, answer: str) -> list[str]:
    days = skills._DAYS
    right, start = days.index(answer), days.index(text.rstrip("?").split()[-1])
    other_way = days[(2 * start - right) % 7]
    return [other_way, *_mixed(rng, (days[(right + d) % 7] for d in (-2, -1, 1, 2)))]


def _clock(rng: Random, text: str, answer: str) -> list[str]:
    shift, hour, minute = _numbers(text)
    start = 60 * hour + minute
    signed = -shift if " before " in text else shift
    right = start + signed
    hour_kept = 60 * hour + right % 60
    tens = [right // 60 * 60 + (right + d) % 60 for d in (-10, 10)]
    others = [start - signed, right - 60, right + 60]
    groups = ([hour_kept], tens, others)
    return [t for group in groups for t in _mixed(rng, map(skills._show_time, group))]


def _units(rng: Random, text: str, answer: str) -> list[str]:
    right = int(answer)
    factor = right // _numbers(text)[0]
    one_off = [right - factor, right + factor]
    if factor in (100, 1000):
        return _written(rng, [right // 10, right * 10]) + _written(rng, one_off)
    carry = [right - 20, right + 20]
    other = [right - 200, right + 200] if right >= 1000 else [right - 10, right + 10]
    return _written(rng, carry, floor=1) + _written(rng, other + one_off, floor=1)


# logic -----------------------------------------------------------------------------------------


def _bit_flips(rng: Random, text: str, answer: str) -> list[str]:
    late = range(len(answer) * 2 // 3, len(answer))
    kept = [answer[:i] + "10"[int(answer[i])] + answer[i + 1 :] for i in late]
    left_out = [answer[:i] + answer[i + 1 :] for i in late[:-1]]
    twice = [answer[:i] + answer[i] + answer[i:] for i in late]
    return [
        *_mixed(rng, kept)[:1],
        *_mixed(rng, left_out)[:1],
        *_mixed(rng, kept + left_out + twice),
    ]


def _sets(rng: Random, text: str, answer: str) -> list[str]:
    given, right_hand = text.removesuffix("?").split(" and ")
    operation, left_hand = given.removeprefix("What is the ").split(" of ")
    a, b = set(left_hand.split()), set(right_hand.split())
    results = {"union": a | b, "intersection": a & b, "difference": a - b}
    right = results.pop(operation)
    seen = a if operation == "difference" else a | b

    def written(sets: Iterable[set[str]]) -> list[str]:
        return _mixed(rng, (" ".join(sorted(s)) or "empty" for s in sets))

    one_more = written(right | {c} for c in sorted(seen - right))
    one_less = written(right - {c} for c in sorted(right))
    other_operation = written([*results.values(), b - a])
    return one_more[:2] + one_less[:1] + other_operation + one_more + one_less


def _ordering(rng: Random, text: str, answer: str) -> list[str]:
    pairs = re.findall(r"(\w+) is \w+ than (\w+)\.", text)
    return _mixed(rng, sorted({name for pair in pairs for name in pair}))


def _truth_values(rng: Random, text: str, answer: str) -> list[str]:
    return []


# facts: neighbours in the table, what is written alike, what is better known --------------------


@functools.cache
def _likeness(a: str, b: str) -> float:
    """How many letters are in the same place, counted from the start and from the end."""
    a, b = a.lower(), b.lower()
    from_start, from_end = zip(a, b, strict=False), zip(a[::-1], b[::-1], strict=False)
    same = sum(x == y for pairs in (from_start, from_end) for x, y in pairs)
    return same / (len(a) + len(b)) + (a[0] == b[0])


def _alike(rng: Random, answer: str, pool: Iterable[str]) -> list[str]:
    """The pool, what is written most like the answer first."""
    return sorted(_mixed(rng, pool), key=lambda word: _likeness(word, answer), reverse=True)


def _row_of(answer: str, table: Sequence[Sequence[str]]) -> int:
    return next(r for r, row in enumerate(table) if answer in row)


def _column(answer: str, table: Sequence[Sequence[str]]) -> list[str]:
    """All that stand in the answer's column; a capital may be named like its country."""
    at = table[_row_of(answer, table)].index(answer)
    return [row[at] for row in table]


def _element_symbols(rng: Random, text: str, answer: str) -> list[str]:
    pool = [word for word in _column(answer, facts.ELEMENTS) if word != answer]
    known = [word for word in pool[:56] if word[0] == answer[0]]
    return [*_mixed(rng, known)[:2], *_alike(rng, answer, pool)]


def _atomic_numbers(rng: Random, text: str, answer: str) -> list[str]:
    if answer.isdigit():
        right = int(answer)
        near = [right - 2, right - 1, right + 1, right + 2]
        return _written(rng, [right - 10, right + 10], floor=1) + _written(rng, near, floor=1)
    row = _row_of(answer, facts.ELEMENTS)
    next_to = (facts.ELEMENTS[r][0] for r in (row - 1, row + 1) if 0 <= r < len(facts.ELEMENTS))
    return [*_mixed(rng, next_to)[:1], *_element_symbols(rng, text, answer)]


def _capitals(rng: Random, text: str, answer: str) -> list[str]:
    continent = facts.COUNTRIES[_row_of(answer, facts.COUNTRIES)][2]
    pool = _column(answer, facts.COUNTRIES)
    here = [
        word
        for word, row in zip(pool, facts.COUNTRIES, strict=True)
        if row[2] == continent and word != answer
    ]
    best_known = _mixed(rng, here[:8])[:1]
    return [*best_known, *_alike(rng, answer, here)[:1], *_alike(rng, answer, pool)]


_MIXED_UP = {
    "Europe": ("Asia", "Africa"),
    "Asia": ("Europe", "Africa"),
    "Africa": ("Asia", "South America"),
    "North America": ("South America", "Africa"),
    "South America": ("North America", "Africa"),
    "Oceania": ("Asia", "Africa"),
}


def _continents(rng: Random, text: str, answer: str) -> list[str]:
    return [*_MIXED_UP[answer], *_mixed(rng, _MIXED_UP)]


def _past_tenses(rng: Random, text: str, answer: str) -> list[str]:
    return _alike(rng, answer, _column(answer, facts.PAST_TENSES))


_MISTAKES: dict[str, Callable[[Random, str, str], list[str]]] = {
    "addition": _addition,
    "multiplication": _multiplication,
    "division": _division,
    "remainder": _remainder,
    "rounding": _rounding,
    "largest": _largest,
    "digit_sum": _digit_sum,
    "common_divisor": _common_divisor,
    "prime_factor": _prime_factor,
    "sequences": _sequences,
    "to_roman": _to_roman,
    "from_roman": _from_roman,
    "spelled_numbers": _spelled_numbers,
    "alphabet": _alphabet,
    "reversal": _in_order,
    "letter_sorting": _in_order,
    "weekdays": _weekdays,
    "clock": _clock,
    "units": _units,
    "bit_flips": _bit_flips,
    "sets": _sets,
    "ordering": _ordering,
    "truth_values": _truth_values,
    "element_symbols": _element_symbols,
    "atomic_numbers": _atomic_numbers,
    "capitals": _capitals,
    "continents": _continents,
    "past_tenses": _past_tenses,
}
