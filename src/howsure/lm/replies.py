"""What a server says with its log-probabilities, in either of the two layouts in use.

conversations   {"logprobs": {"content": [{"token", "logprob", "bytes", "top_logprobs": [...]}]}}
texts           {"logprobs": {"tokens": [...], "token_logprobs": [...], "top_logprobs": [{...}]}}

Tokens are texts here: a server shows no ids and no tokenizer.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from howsure import api
from howsure.lm.stops import first_line, is_settled

LEAST = -9999.0
"""Log-probability of what is impossible; servers write it so, JSON having no infinity."""

MOST_UNKNOWN = 0.01
"""Of the options' probability, that may be unknown in a row: less moves a share by 0.005 at most.
"""

_ROUNDING = 1e-3
"""By which a log-probability may lie above 0."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was said."""

    text: str
    logp: float | None
    """None where the server's number is none (NaN)."""
    top: tuple[tuple[str, float | None], ...] = ()
    """The likeliest tokens in its place, itself among them."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said."""

    text: str
    tokens: tuple[Token, ...] | None
    """None where the server tells no log-probabilities."""


# reading ----------------------------------------------------------------------------------------


def read(data: bytes) -> str:
    """What of a reply is kept: JSON that `kept` reads. Raises ValueError for another shape."""
    found = api.choice(data)
    if "text" in found:
        text = found["text"]
    else:
        message = found.get("message")
        if not isinstance(message, Mapping):
            raise ValueError(f"a reply of another shape: {json.dumps(found)[:80]}")
        text = message.get("content")
    if not isinstance(text, str | None):
        raise ValueError(f"a reply whose text is no text: {json.dumps(text)[:60]}")
    return json.dumps([text or "", _tokens(found.get("logprobs"))], allow_nan=False)


def kept(text: str) -> Reply:
    """The reply of which `read` kept this."""
    said, tokens = json.loads(text)
    if tokens is None:
        return Reply(said, None)
    made = (Token(t, logp, tuple((a, b) for a, b in top)) for t, logp, top in tokens)
    return Reply(said, tuple(made))


def _tokens(logprobs: Any) -> list[Any] | None:
    """[token, log-probability, [[token, log-probability], ...]] of each; None without any."""
    if logprobs is None:
        return None
    try:
        if logprobs.get("content") is not None:
            return [
                [_text(e), _number(e["logprob"]), _listed(e.get("top_logprobs"))]
                for e in logprobs["content"]
            ]
        if logprobs.get("tokens") is None:
            return None
        tops = logprobs.get("top_logprobs") or [None] * len(logprobs["tokens"])
        rows = zip(logprobs["tokens"], logprobs["token_logprobs"], tops, strict=True)
        return [[_string(t), _number(logp), _listed(top)] for t, logp, top in rows]
    except (AttributeError, KeyError, TypeError):
        raise ValueError(
            f"log-probabilities of another shape: {json.dumps(logprobs)[:80]}"
        ) from None


def _listed(top: Any) -> list[list[Any]]:
    if isinstance(top, Mapping):
        return [[_string(t), _number(logp)] for t, logp in top.items()]
    return [[_text(e), _number(e["logprob"])] for e in top or ()]


def _text(entry: Mapping[str, Any]) -> str:
    """A token's text; half of a character is kept as its bytes."""
    if entry.get("bytes"):
        return bytes(entry["bytes"]).decode("utf-8", "surrogateescape")
    return _string(entry["token"])


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: Any) -> float | None:
    """A log-probability, at least LEAST; None for NaN. Raises for what can be none."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    if math.isnan(value):
        return None
    if value > _ROUNDING:
        raise ValueError(f"the log-probability {value:g}, which is above 0")
    return max(LEAST, min(0.0, float(value)))


# what it says -----------------------------------------------------------------------------------


def answer_of(reply: Reply) -> tuple[str, float | None, int]:
    """A free answer: its first line, the sum of its tokens' log-probabilities, how many they are.

    The sum is None where it can't be told; the count is at least 1.
    """
    answer = first_line(reply.text).strip()
    used = _tokens_of(answer, reply.tokens or ())
    values = [t.logp for t in used]
    known = [v for v in values if v is not None]
    total = sum(known) if known and len(known) == len(values) else None
    return answer, total, max(1, len(used))


def _tokens_of(answer: str, tokens: Sequence[Token]) -> Sequence[Token]:
    """The tokens up to where the answer's line is over.

    An end token, which some servers list and others don't, is none of them; where it is all that
    was said, it stands for the empty answer.
    """
    count = 0
    for n in range(1, len(tokens) + 1):
        text = joined(tokens[:n])
        settled = is_settled(text)
        told_already = settled and count == n - 1 > 0
        if first_line(text).strip() == answer and tokens[n - 1].text and not told_already:
            count = n
        if settled:
            break
    return tokens[: max(count, 0 if answer else 1)]


def joined(tokens: Sequence[Token]) -> str:
    """The text of the tokens together."""
    whole = "".join(t.text for t in tokens)
    return whole.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def option_row(
    reply: Reply, options: Sequence[str], *, chat: bool, known: Collection[str]
) -> NDArray[np.float32]:
    """(options,): log-probabilities with which the reply begins with each option; NaN: unknown.

    A server lists the likeliest tokens only. An option that is not among them is no likelier than
    the least of them, and than all that is left over. Where that is little beside the options that
    are listed (MOST_UNKNOWN), half of it is taken; else the option is unknown. So it is where the
    option may be no single token: `known` are those that are one, as letters are.
    """
    row = np.full(len(options), np.nan, dtype=np.float32)
    top = _likeliest(reply)
    if not top or any(logp is None for _, logp in top):
        return row
    p = [(text, math.exp(logp)) for text, logp in top if logp is not None]
    found = [_probability(p, option, chat=chat) for option in options]
    there = sum(x for x in found if x is not None)
    if not there:
        return row
    most = min(min(x for _, x in p), max(0.0, 1.0 - sum(x for _, x in p)))
    little = most * len(options) <= MOST_UNKNOWN * there
    for i, (option, x) in enumerate(zip(options, found, strict=True)):
        if x is not None:
            row[i] = math.log(x) if x > 0 else LEAST
        elif little and (len(option) == 1 or option in known):
            row[i] = math.log(most / 2) if most > 0 else LEAST
    return row


def _likeliest(reply: Reply) -> list[tuple[str, float | None]]:
    """The likeliest first tokens, the one that was said among them."""
    first = next(iter(reply.tokens or ()), None)
    if first is None:
        return []
    # Tokens that read alike are one entry in a mapping; then it may be that of the less likely.
    others = [t for t in first.top if not _same(t, first)]
    return [*others, (first.text, first.logp)]


def _same(entry: tuple[str, float | None], said: Token) -> bool:
    text, logp = entry
    if logp is None or said.logp is None:
        return text == said.text and logp is said.logp
    return text == said.text and abs(logp - said.logp) < 1e-5


def _probability(p: Sequence[tuple[str, float]], option: str, *, chat: bool) -> float | None:
    """Of an option, after a space (in a conversation with or without one); None if not listed.

    Some servers cut the space off: then none of their tokens begins with one.
    """
    texts = [(_spaced(text), x) for text, x in p]
    if chat:
        same = [x for text, x in texts if text.strip() == option]
        return sum(same) if same else None
    spaced = any(text[:1].isspace() for text, _ in texts)
    return max((x for text, x in texts if text == (" " if spaced else "") + option), default=None)


def _spaced(token: str) -> str:
    """With the space that tokenizers write in their own way."""
    return " " + token[1:] if token[:1] in ("\u2581", "\u0120") else token
