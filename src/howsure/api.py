"""An OpenAI-compatible server: requests with retries, a limit of concurrency, a cache, a deadline.

What a server says is untrusted: its size is limited, its shape is checked, redirects are not
followed. The key comes from the environment only and goes into no file, message or cache.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import random
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit

from howsure.errors import ApiError, UsageError

PREFIX = "openai:"
OPENAI = "https://api.openai.com/v1"
KEY = "HOWSURE_API_KEY"
OPENAI_KEY = "OPENAI_API_KEY"
"""The second is sent to OpenAI only: it is often set for other programs."""

T = TypeVar("T")
R = TypeVar("R")

_RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}
_MOST_BYTES = 10_000_000
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True, slots=True)
class Server:
    """A model on a server."""

    name: str
    url: str = OPENAI
    """Up to and including "/v1"."""

    def __str__(self) -> str:
        return f"{PREFIX}{self.name}@{self.url}"


def is_server(name: str) -> bool:
    """Whether a model's name means a server: "openai:NAME" or "openai:NAME@URL"."""
    return name.startswith(PREFIX)


def parse(text: str) -> Server:
    """The server of "openai:NAME@URL"; without an URL it is OpenAI's own. Raises UsageError."""
    found = re.fullmatch(rf"{PREFIX}(?P<name>\S+?)(?:@(?P<url>\w+://\S*))?", text)
    url = urlsplit((found and found["url"]) or OPENAI)
    try:
        usable = found and url.scheme in ("http", "https") and url.hostname and url.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not found or not usable:
        # Not repeated whole: a secret may be in it.
        raise UsageError(
            f"{text.split('@')[0]!r}: a server is given as {PREFIX}NAME@URL, for example "
            f"{PREFIX}llama@http://localhost:8000/v1"
        )
    if url.username or url.password or url.query or url.fragment:
        raise UsageError(
            f"{PREFIX}{found['name']}: the address must hold no user, key or query, it would be "
            f"written down; put the key into the environment variable {KEY}"
        )
    return Server(found["name"], url.geturl().rstrip("/"))


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is asked of a server at once, and how long."""

    concurrency: int = 8
    """Requests that are under way at the same time."""
    deadline: float = 3600.0
    """Seconds for all requests of one call."""
    timeout: float = 120.0
    """Seconds in which a server has to say something."""
    attempts: int = 6
    pause: float = 1.0
    """Seconds before the second attempt; each further one waits twice as long."""

    def __post_init__(self) -> None:
        for option, number in (
            ("--api-concurrency", self.concurrency),
            ("--api-deadline", self.deadline),
        ):
            if not number >= 1:
                raise UsageError(f"{option} {number:g}: it must be at least 1")


CHAT = "chat/completions"
COMPLETIONS = "completions"
"""Where a server takes a conversation, and where a text that it goes on with."""

Read = Callable[[bytes], str]
"""From a reply's bytes to what of it is kept. Raises ValueError for a reply of another shape."""


class Client:
    """Asks one server. `cache` is a folder of replies by what was asked; None: nothing is kept."""

    def __init__(
        self, server: Server, limits: Limits | None = None, cache: Path | None = None
    ) -> None:
        self.server, self.limits, self._cache = server, limits or Limits(), cache
        key = os.environ.get(KEY, "")
        if not key and urlsplit(server.url).hostname == urlsplit(OPENAI).hostname:
            key = os.environ.get(OPENAI_KEY, "")
        if not key.isascii() or any(c.isspace() for c in key.strip()):
            raise ApiError(f"the key in {KEY} has characters that no key can have; set it again")
        self._key = key.strip()
        self._not_taken: set[str] = set()
        """Parts of requests that the server has refused."""
        self._opener = urllib.request.build_opener(_NoRedirects)

    def deadline(self) -> float:
        """When (time.monotonic) all requests that belong together and begin now must be done."""
        return time.monotonic() + self.limits.deadline

    def ask(
        self,
        bodies: Sequence[Mapping[str, Any]],
        on_progress: Callable[[int, int], None] | None = None,
        *,
        path: str = CHAT,
        read: Read | None = None,
        until: float | None = None,
        trying: bool = False,
    ) -> list[str]:
        """What `read` takes from the replies to these requests, in their order.

        Without `read` it is the text said. Equal requests are sent once. Temperature 0 and the
        model's name are put in. `until` is a `deadline()` that several calls share. `trying`:
        whether the server takes such requests is not known; status 500 may mean that it doesn't.
        Raises ApiError when a reply can't be had; those that came before are in the cache.
        """
        whole = [{"model": self.server.name, "temperature": 0, **b} for b in bodies]
        names = [self._name(path, b) for b in whole]
        jobs = dict(zip(names, whole, strict=True))
        ends, stop, replies = until or self.deadline(), Event(), dict[str, str]()
        retried = _RETRIED - {500} if trying else _RETRIED

        def reply(job: tuple[str, dict[str, Any]]) -> tuple[str, str]:
            name, body = job
            text = self._kept(name)
            if text is None:
                text = self._asked(dict(body), path, read or said, ends, stop, retried)
                self._keep(name, text)
            return name, text

        try:
            for name, text in _in_threads(reply, list(jobs.items()), self.limits.concurrency):
                replies[name] = text
                if on_progress:
                    on_progress(len(replies), len(jobs))
        finally:
            stop.set()
        return [replies[name] for name in names]

    def _name(self, path: str, body: Mapping[str, Any]) -> str:
        return _sha256(json.dumps([self.server.url, path, body], sort_keys=True))

    def _asked(
        self,
        body: dict[str, Any],
        path: str,
        read: Read,
        until: float,
        stop: Event,
        retried: Collection[int],
    ) -> str:
        why, attempt = "", 0
        for what in tuple(self._not_taken):
            _adapt(body, what)
        while attempt < self.limits.attempts:
            left = until - time.monotonic()
            if left <= 0 or stop.is_set():
                last = f" (last: {why})" if why else ""
                raise self._error(
                    f"not all replies came within {self.limits.deadline:g} seconds{last}; "
                    "what came is kept: run the same command again, or raise --api-deadline"
                )
            attempt += 1
            try:
                return read(self._post(path, body, min(self.limits.timeout, left), until))
            except urllib.error.HTTPError as error:
                why = self._said(error)
                lacking = _lacking(body, why) if error.code == 400 else None
                if lacking:
                    self._not_taken.add(lacking)
                    _adapt(body, lacking)
                    attempt -= 1
                    continue
                if error.code not in retried:
                    raise self._error(f"{why}{self._remedy(error.code)}", error.code) from None
                asked_for = _seconds(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", None) or error
                why, asked_for = str(reason) or type(error).__name__, 0.0
            except ValueError as error:
                why, asked_for = str(error), 0.0
            if attempt < self.limits.attempts:
                pause = self.limits.pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.0)
                pause = min(
                    max(pause, asked_for), _LONGEST_PAUSE, max(0.0, until - time.monotonic())
                )
                stop.wait(pause)
        raise self._error(
            f"no usable reply in {attempt} attempts (last: {why[:200]}); what came is kept: run "
            "the same command again once the server answers"
        )

    def _post(self, path: str, body: Mapping[str, Any], timeout: float, until: float) -> bytes:
        headers = {"Content-Type": "application/json", "User-Agent": "howsure"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        address = f"{self.server.url}/{path}"
        request = urllib.request.Request(address, json.dumps(body).encode(), headers)
        with self._opener.open(request, timeout=timeout) as response:
            parts, size = [], 0
            while part := response.read1(1 << 16):
                parts.append(part)
                size += len(part)
                if size > _MOST_BYTES:
                    raise ValueError(f"a reply of more than {_MOST_BYTES:,} bytes")
                if time.monotonic() > until:
                    raise TimeoutError("the reply did not end in time")
        return b"".join(parts)

    def _said(self, error: urllib.error.HTTPError) -> str:
        """The status, and the server's own words on it, in one line and without the key."""
        text = ""
        with suppress(OSError, ValueError, http.client.HTTPException):
            text = error.read(20_000).decode("utf-8", "replace")
            told = json.loads(text)
            inner = told.get("error", told) if isinstance(told, dict) else told
            text = str(inner.get("message", inner) if isinstance(inner, dict) else inner)
        line = "".join(c if c.isprintable() else " " for c in text)
        line = " ".join(line.replace(self._key, "***").split() if self._key else line.split())
        return f"status {error.code}" + (f", {line[:200]!r}" if line else "")

    def _remedy(self, code: int) -> str:
        if code in (401, 403):
            sent = "the key in the environment was not accepted" if self._key else "no key was sent"
            return f"; {sent}: set {KEY}"
        if 300 <= code < 400:
            return "; redirects are not followed: give the address itself"
        if code in (400, 413, 422):
            return "; the model does not take this: too long a prompt needs fewer --shots"
        return "; check the model's name and the address (it usually ends with /v1)"

    def _error(self, what: str, status: int | None = None) -> ApiError:
        return ApiError(f"server {self.server.url}, model {self.server.name!r}: {what}", status)

    # what is kept -------------------------------------------------------------------------------

    def _file(self, name: str) -> Path | None:
        return self._cache / name[:2] / f"{name}.json" if self._cache else None

    def _kept(self, name: str) -> str | None:
        file = self._file(name)
        try:
            held = json.loads(file.read_text(encoding="utf-8")) if file else {}
            return str(held["text"]) if held["sha256"] == _sha256(held["text"]) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None  # not there, or damaged: asked again

    def _keep(self, name: str, text: str) -> None:
        file = self._file(name)
        if file is None:
            return
        temporary = file.with_suffix(f".{os.getpid()}-{time.monotonic_ns()}")
        with suppress(OSError):  # without a cache the work can still be done
            file.parent.mkdir(parents=True, exist_ok=True)
            held = {"text": text, "sha256": _sha256(text)}
            temporary.write_text(json.dumps(held), encoding="utf-8")
            temporary.replace(file)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect could send the key and the questions elsewhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _in_threads(work: Callable[[T], R], items: Sequence[T], most: int) -> Iterator[R]:
    """Results as they come, of at most so many at work. The first error ends it.

    The threads are daemons: whoever is stopped, with Ctrl-C too, need not wait for a reply.
    """
    todo: SimpleQueue[T] = SimpleQueue()
    done: SimpleQueue[tuple[R | None, BaseException | None]] = SimpleQueue()
    for item in items:
        todo.put(item)

    def run() -> None:
        with suppress(Empty):
            while True:
                item = todo.get_nowait()
                try:
                    done.put((work(item), None))
                except BaseException as error:
                    done.put((None, error))
                    return

    for _ in range(min(most, len(items))):
        Thread(target=run, daemon=True).start()
    for _ in items:
        result, error = done.get()
        if error is not None:
            raise error
        yield cast(R, result)


def choice(data: bytes) -> dict[str, Any]:
    """The first choice in a server's JSON. Raises ValueError for anything of another shape."""
    try:
        whole = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"no JSON: {data[:60]!r}") from None
    try:
        found = whole["choices"][0]
    except (KeyError, IndexError, TypeError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"a reply of another shape: {json.dumps(whole)[:80]}")
    return found


def said(data: bytes) -> str:
    """The text of a chat reply. Raises ValueError for anything of another shape."""
    found = choice(data)
    try:
        text = found["message"]["content"]
    except (KeyError, TypeError):
        raise ValueError(f"a reply of another shape: {json.dumps(found)[:80]}") from None
    if text is None:  # nothing was said
        return ""
    if not isinstance(text, str):
        raise ValueError(f"a reply whose text is no text: {json.dumps(text)[:60]}")
    return text


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _lacking(body: Mapping[str, Any], why: str) -> str | None:
    """What of the request a server with newer models does not take, if its refusal says so."""
    if "max_completion_tokens" in why and "max_tokens" in body:
        return "max_tokens"
    if "'temperature'" in why and "temperature" in body:
        return "temperature"
    return "seed" if re.search(r"\bseed\b", why) and "seed" in body else None


def _adapt(body: dict[str, Any], what: str) -> None:
    """Changes the request to what such a server takes."""
    value = body.pop(what, None)
    if what == "max_tokens" and value is not None:
        body["max_completion_tokens"] = value


def _seconds(text: str | None) -> float:
    try:
        return max(0.0, float(text or 0))
    except ValueError:  # a date; our own pause will do
        return 0.0
