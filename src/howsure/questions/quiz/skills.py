"""Skills: questions whose numbers are new each time, with the exact answer computed.

Each function draws one question: `(rng) -> Item`. Inside a subject the difficulty varies from
trivial to out of reach for a tiny model, so that there is something to be unsure about.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random
from typing import NamedTuple


class Item(NamedTuple):
    """A question text, its exact answer, and three plausible wrong answers."""

    text: str
    answer: str
    wrong: tuple[str, str, str]


def pick_wrong(rng: Random, answer: str, draw: Callable[[], str]) -> tuple[str, str, str]:
    """Three distinct values of `draw()` that differ from `answer`."""
    wrong: list[str] = []
    for _ in range(1000):
        candidate = draw()
        if candidate != answer and candidate not in wrong:
            wrong.append(candidate)
            if len(wrong) == 3:
                return wrong[0], wrong[1], wrong[2]
    raise AssertionError(f"no three wrong answers beside {answer!r}")


def number(rng: Random, text: str, answer: int, floor: int = 0) -> Item:
    """A numeric item; its wrong answers are slips: off by one, by ten, digits swapped."""

    def slip() -> str:
        kind = rng.randrange(4)
        if kind == 0:
            value = answer + rng.choice((-1, 1))
        elif kind == 1:
            value = answer + 10 * rng.choice((-1, 1))
        elif kind == 2 and answer >= 10:
            digits = list(str(answer))
            i = rng.randrange(len(digits) - 1)
            digits[i], digits[i + 1] = digits[i + 1], digits[i]
            value = int("".join(digits))
        else:
            value = answer + rng.randint(-9, 9)
        return str(max(floor, value))

    return Item(text, str(answer), pick_wrong(rng, str(answer), slip))


def one_of(rng: Random, text: str, answer: str, pool: Sequence[str]) -> Item:
    """An item whose wrong answers come from the pool, which must hold three others."""
    return Item(text, answer, pick_wrong(rng, answer, lambda: rng.choice(pool)))


def digits(rng: Random, most: int) -> int:
    """A number of 1 to `most` digits, each length equally likely."""
    n = rng.randint(1, most)
    return rng.randint(10 ** (n - 1) if n > 1 else 0, 10**n - 1)


# arithmetic ------------------------------------------------------------------------------------


def addition(rng: Random) -> Item:
    a, b = digits(rng, 3), digits(rng, 3)
    return number(rng, f"What is {a} + {b}?", a + b)


def multiplication(rng: Random) -> Item:
    a, b = rng.randint(2, 12) if rng.random() < 0.7 else rng.randint(13, 99), rng.randint(2, 99)
    if rng.random() < 0.5:
        a, b = b, a
    return number(rng, f"What is {a} times {b}?", a * b)


def division(rng: Random) -> Item:
    a, b = rng.randint(2, 20), rng.randint(2, 60)
    return number(rng, f"What is {a * b} divided by {a}?", b)


def remainder(rng: Random) -> Item:
    a, b = rng.randint(10, 999), rng.choice((2, 3, 4, 5, 6, 7, 8, 9, 10, 100))
    return number(rng, f"What is the remainder of {a} divided by {b}?", a % b)


def rounding(rng: Random) -> Item:
    to = rng.choice((10, 100, 1000))
    n = rng.randint(to, 10 * to if rng.random() < 0.3 else 99999)
    answer = (n + to // 2) // to * to

    def slip() -> str:
        return str(max(0, answer + to * rng.choice((-2, -1, 1, 2, 3))))

    return Item(f"Round {n} to the nearest {to}.", str(answer), pick_wrong(rng, str(answer), slip))


# numbers ---------------------------------------------------------------------------------------


def largest(rng: Random) -> Item:
    n = rng.choice((100, 1000, 10000))
    values = rng.sample(range(n), rng.randint(4, 5))
    word, answer = rng.choice((("largest", max(values)), ("smallest", min(values))))
    pool = [str(v) for v in values]
    return one_of(rng, f"Which is {word}: {', '.join(pool)}?", str(answer), pool)


def digit_sum(rng: Random) -> Item:
    n = rng.randint(10, 99) if rng.random() < 0.4 else rng.randint(100, 99999)
    return number(rng, f"What is the digit sum of {n}?", sum(map(int, str(n))))


def common_divisor(rng: Random) -> Item:
    g = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15))
    a, b = g * rng.randint(1, 12), g * rng.randint(1, 12)
    text = f"What is the greatest common divisor of {a} and {b}?"
    return number(rng, text, math.gcd(a, b), floor=1)


def prime_factor(rng: Random) -> Item:
    n = rng.randint(4, 4000)
    factor = next((p for p in range(2, math.isqrt(n) + 1) if n % p == 0), n)
    pool = ("2", "3", "5", "7", "11", "13", "17", str(n))
    return one_of(rng, f"What is the smallest prime factor of {n}?", str(factor), pool)


def sequences(rng: Random) -> Item:
    start, step = rng.randint(0, 60), rng.randint(1, 12)
    kind = rng.random()
    if kind < 0.6:
        terms = [start + step * i for i in range(5)]
    elif kind < 0.8:
        terms = [start + 100 - step * i for i in range(5)]
    else:
        first = rng.randint(1, 30)
        terms = [first * 2**i for i in range(5)]
    shown = ", ".join(map(str, terms[:4]))
    return number(rng, f"What comes next: {shown}?", terms[4])


# notation --------------------------------------------------------------------------------------

_ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"),
    (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip


def roman(n: int) -> str:
    """1 to 3999 in Roman numerals."""
    out = ""
    for value, sign in _ROMAN:
        while n >= value:
            out, n = out + sign, n - value
    return out


def to_roman(rng: Random) -> Item:
    n = rng.randint(1, 99) if rng.random() < 0.3 else rng.randint(100, 3999)

    def slip() -> str:
        return roman(max(1, n + rng.choice((-100, -10, -5, -2, -1, 1, 2, 5, 10, 100))))

    return Item(f"Write {n} in Roman numerals.", roman(n), pick_wrong(rng, roman(n), slip))


def from_roman(rng: Random) -> Item:
    n = rng.randint(1, 99) if rng.random() < 0.3 else rng.randint(100, 3999)
    return number(rng, f"Which number is {roman(n)}?", n, floor=1)


_ONES = (  # noqa: SIM905
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
_TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()  # noqa: SIM905


def number_words(n: int) -> str:
    """0 to 999,999 in words, without "and" or hyphens."""
    if n < 20:
        return _ONES[n]
    if n < 100:
        return _TENS[n // 10] + (f" {_ONES[n % 10]}" if n % 10 else "")
    if n < 1000:
        rest = f" {number_words(n % 100)}" if n % 100 else ""
        return f"{_ONES[n // 100]} hundred{rest}"
    rest = f" {number_words(n % 1000)}" if n % 1000 else ""
    return f"{number_words(n // 1000)} thousand{rest}"


def spelled_numbers(rng: Random) -> Item:
    n = rng.randint(20, 999) if rng.random() < 0.3 else rng.randint(1000, 999999)
    return number(rng, f"Write in digits: {number_words(n)}.", n)


# letters ---------------------------------------------------------------------------------------

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"


def alphabet(rng: Random) -> Item:
    letters = rng.sample(_ALPHABET, rng.randint(3, 8))
    shown = ", ".join(letters)
    if rng.random() < 0.5:
        text, answer = f"Which letter comes first in the alphabet: {shown}?", min(letters)
    else:
        text, answer = f"Which letter comes last in the alphabet: {shown}?", max(letters)
    pool = letters if len(letters) > 3 else list(_ALPHABET)
    return one_of(rng, text, answer, pool)


def _in_order(rng: Random, text: str, right: list[str]) -> Item:
    """Letters in the right order; the wrong answers swap two, or also exchange one."""

    def slip() -> str:
        other = right.copy()
        i, j = rng.randrange(len(other)), rng.randrange(len(other))
        other[i], other[j] = other[j], other[i]
        if rng.random() < 0.5:
            other[i] = rng.choice(_ALPHABET)
        return " ".join(other)

    answer = " ".join(right)
    return Item(text, answer, pick_wrong(rng, answer, slip))


def reversal(rng: Random) -> Item:
    letters = [rng.choice(_ALPHABET) for _ in range(rng.randint(2, 12))]
    return _in_order(rng, f"Reverse {' '.join(letters)}.", letters[::-1])


def letter_sorting(rng: Random) -> Item:
    letters = [rng.choice(_ALPHABET) for _ in range(rng.randint(3, 10))]
    return _in_order(rng, f"Sort {' '.join(letters)}.", sorted(letters))


# time and measures -----------------------------------------------------------------------------

_DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()  # noqa: SIM905


def weekdays(rng: Random) -> Item:
    day, n = rng.randrange(7), rng.choice((rng.randint(2, 14), rng.randint(15, 150)))
    way, sign = rng.choice((("after", 1), ("before", -1)))
    text = f"Which day is {n} days {way} {_DAYS[day]}?"
    return one_of(rng, text, _DAYS[(day + sign * n) % 7], _DAYS)


def clock(rng: Random) -> Item:
    minutes, shift = rng.randrange(24 * 60), rng.choice((5, 10, 15, 20, 30, 45, 60, 90, 120))
    way, sign = rng.choice((("after", 1), ("before", -1)))
    then = minutes + sign * shift
    answer = _show_time(then)

    def slip() -> str:
        return _show_time(then + rng.choice((-60, -30, -10, -5, 5, 10, 30, 60)))

    text = f"What time is {shift} minutes {way} {_show_time(minutes)}?"
    return Item(text, answer, pick_wrong(rng, answer, slip))


def _show_time(minutes: int) -> str:
    return f"{minutes % 1440 // 60}:{minutes % 60:02d}"


_UNITS = (
    ("kilometres", "metres", 1000), ("metres", "centimetres", 100), ("kilograms", "grams", 1000),
    ("litres", "millilitres", 1000), ("hours", "minutes", 60), ("minutes", "seconds", 60),
    ("days", "hours", 24), ("weeks", "days", 7), ("years", "months", 12), ("feet", "inches", 12),
    ("dozens", "pieces", 12), ("centuries", "years", 100),
)  # fmt: skip


def units(rng: Random) -> Item:
    big, small, factor = rng.choice(_UNITS)
    n = rng.randint(2, 12) if rng.random() < 0.4 else rng.randint(13, 250)
    answer = n * factor

    def slip() -> str:
        other = rng.choice((7, 10, 12, 24, 60, 100, 1000))
        return str(n * other if rng.random() < 0.6 else answer + factor * rng.choice((-1, 1)))

    return Item(
        f"How many {small} are in {n} {big}?", str(answer), pick_wrong(rng, str(answer), slip)
    )


# logic -----------------------------------------------------------------------------------------


def bit_flips(rng: Random) -> Item:
    bits = "".join(rng.choice("01") for _ in range(rng.randint(5, 24)))
    answer = "".join("10"[int(b)] for b in bits)

    def slip() -> str:
        i = rng.randrange(len(answer))
        return answer[:i] + "10"[int(answer[i])] + answer[i + 1 :]

    return Item(f"Flip all bits of {bits}.", answer, pick_wrong(rng, answer, slip))


def sets(rng: Random) -> Item:
    a, b = (sorted(rng.sample("abcdefghij", rng.randint(2, 5))) for _ in range(2))
    operation = rng.choice(("union", "intersection", "difference"))
    left, right = set(a), set(b)
    result = {"union": left | right, "intersection": left & right, "difference": left - right}
    answer = " ".join(sorted(result[operation])) or "empty"

    def slip() -> str:
        other = result[operation] ^ {rng.choice("abcdefghij")}
        return " ".join(sorted(other)) or "empty"

    text = f"What is the {operation} of {' '.join(a)} and {' '.join(b)}?"
    return Item(text, answer, pick_wrong(rng, answer, slip))


_NAMES = "Ann Ben Carl Dora Eve Finn Gus Hana Ivy Jack".split()  # noqa: SIM905
_ORDERS = (("taller", "tallest", "shortest"), ("older", "oldest", "youngest"),
           ("faster", "fastest", "slowest"), ("richer", "richest", "poorest"))  # fmt: skip


def ordering(rng: Random) -> Item:
    names = rng.sample(_NAMES, rng.randint(3, 5))
    more, most, least = rng.choice(_ORDERS)
    facts = [f"{a} is {more} than {b}." for a, b in pairwise(names)]
    rng.shuffle(facts)
    word, answer = rng.choice(((most, names[0]), (least, names[-1])))
    pool = names if len(names) > 3 else _NAMES
    return one_of(rng, f"{' '.join(facts)} Who is {word}?", answer, pool)


def truth_values(rng: Random) -> Item:
    def build(depth: int) -> tuple[str, bool]:
        if depth == 0:
            value = rng.random() < 0.5
            return ("true" if value else "false"), value
        if rng.random() < 0.3:
            text, value = build(depth - 1)
            return f"not ({text})" if " " in text else f"not {text}", not value
        left, lv = build(depth - 1)
        right, rv = build(rng.randrange(depth))
        left = f"({left})" if " " in left else left
        right = f"({right})" if " " in right else right
        if rng.random() < 0.5:
            return f"{left} and {right}", lv and rv
        return f"{left} or {right}", lv or rv

    text, value = build(rng.randint(2, 4))
    answer = "true" if value else "false"
    wrong = "false" if value else "true"
    return Item(f"What is {text}?", answer, (wrong, "both", "neither"))
