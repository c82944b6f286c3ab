"""Is a free answer the reference? A normalised match, and a careful one.

What two texts may differ in and still match:

    case                  "paris" and "Paris"
    white space           at the ends, and its amount between words
    Unicode form          full-width letters, ligatures, composed accents (NFKC); but 10² is not 102
    quotes and dashes     curly or straight; minus sign, en dash or hyphen
    one pair of quotes    around the whole answer, or ** or ` as in Markdown
    end of a sentence     . , ; : at the end
    an article            a, an, the before a word of two letters or more
    thousands separators  1,493 and 1493, when the number is the whole answer

Everything else counts: signs, units, per cent, brackets, leading zeros, decimals, the order of
words, one word more or less. A sentence that merely contains the reference does not match.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_SINGLE = "\u2018\u2019\u201a\u201b\u2032`"
_DOUBLE = "\u201c\u201d\u201e\u201f\u2033\u00ab\u00bb"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"
_PLAIN = {ord(c): p for cs, p in ((_SINGLE, "'"), (_DOUBLE, '"'), (_DASHES, "-")) for c in cs}
_PAIRS = ("**", '"', "'")
_ARTICLE = re.compile(r"(?:a|an|the) (?=[^\W\d_]{2})")
_GROUPED = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_MEANING = ("<super>", "<sub>", "<fraction>")


def is_match(answer: str, reference: str, choices: Sequence[str] = ()) -> bool:
    """Whether the answer is the reference, as far as differences in writing go.

    `choices` are the question's options, if it has any: where two of them would become the same
    text ("A+" and "a+"), the reference has to be met to the letter, white space aside. An answer
    without any content matches nothing.
    """
    if not answer.strip():
        return False
    goal = normalise(reference)
    rivals = [c for c in choices if c != reference and normalise(c) == goal]
    if rivals or not goal:
        return " ".join(answer.split()) == " ".join(reference.split())
    return normalise(answer) == goal


def normalise(text: str) -> str:
    """The text without the differences that the module's docstring lists; may become empty.

    Normalising twice changes nothing more.
    """
    while (simpler := _simplify(text)) != text:
        text = simpler
    return text


def _simplify(text: str) -> str:
    text = " ".join(_fold(text.translate(_PLAIN)).split())
    text = text.rstrip(".,;: ")
    for mark in _PAIRS:
        inner = text.removeprefix(mark).removesuffix(mark)
        if len(inner) == len(text) - 2 * len(mark) and mark not in inner:
            text = inner.strip()
    text = _ARTICLE.sub("", text, count=1) if _ARTICLE.match(text) else text
    return text.replace(",", "") if _GROUPED.fullmatch(text) else text


def _fold(text: str) -> str:
    """Compatibility forms and case unified, but for characters whose form has a meaning."""
    folded = "".join(
        c if unicodedata.decomposition(c).startswith(_MEANING) else unicodedata.normalize("NFKC", c)
        for c in text.casefold()
    )
    return unicodedata.normalize("NFC", folded)
