"""A server on loopback that speaks the OpenAI protocol, and says what a test or a model says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from threading import Lock
from typing import TYPE_CHECKING, Any

from loopback import listening

if TYPE_CHECKING:
    from howsure.lm.model import LanguageModel

Says = Callable[[int, dict[str, Any]], tuple[int, bytes]]
"""(number of the request from 0, its JSON) → status and body."""


class Seen:
    """What the server was asked."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.at_once = self.most_at_once = 0
        self.lock = Lock()


def reply(text: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()


def of_model(lm: LanguageModel, *, most: int = 20, chat: bool = False) -> Says:
    """Says what the model says, as vLLM would: greedily, with the `most` likeliest tokens.

    `chat`: conversations are taken too, through the model's template.
    """
    import torch

    lock = Lock()
    tokenizer = lm.tokens._tokenizer

    def says(number: int, body: dict[str, Any]) -> tuple[int, bytes]:
        wanted = body.get("top_logprobs", body.get("logprobs"))
        if wanted is not None and wanted is not True and wanted > most:
            return 400, f'{{"error": {{"message": "at most {most} logprobs"}}}}'.encode()
        if "messages" in body and not chat:
            return 400, b'{"error": {"message": "this model has no chat template"}}'
        ids = lm.tokens.encode([_text(lm, body)])[0]
        made: list[tuple[int, Any]] = []
        with lock, torch.inference_mode():
            while len(made) < body["max_tokens"]:
                row = lm._model(input_ids=torch.tensor([ids])).logits[0, -1].float()
                logp = row.log_softmax(-1)
                token = int(logp.argmax())
                if token in lm.tokens.stops.ends:
                    break
                made.append((token, logp))
                ids = [*ids, token]
        text = tokenizer.decode([t for t, _ in made])
        rows = [
            (tokenizer.decode([t]), float(logp[t]), _top(logp, wanted or 0, tokenizer))
            for t, logp in made
        ]
        return 200, _as_chat(text, rows) if "messages" in body else _as_text(text, rows, body)

    return says


def _text(lm: LanguageModel, body: dict[str, Any]) -> str:
    if "messages" not in body:
        return str(body["prompt"])
    said = [m["content"] for m in body["messages"]]
    assert lm.tokens.chat is not None
    frame = lm.tokens.chat.frame(list(zip(said[:-1:2], said[1::2], strict=True)))
    return frame.prefix + frame.question(said[-1])


def _top(logp: Any, most: int | bool, tokenizer: Any) -> list[tuple[str, float]]:
    best = logp.topk(int(most))
    return [
        (tokenizer.decode([i]), v)
        for i, v in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _as_chat(text: str, rows: list[tuple[str, float, list[tuple[str, float]]]]) -> bytes:
    content = [
        {
            "token": token,
            "logprob": logp,
            "bytes": list(token.encode()),
            "top_logprobs": [{"token": t, "logprob": v, "bytes": None} for t, v in top],
        }
        for token, logp, top in rows
    ]
    message = {"role": "assistant", "content": text}
    return json.dumps(
        {"choices": [{"message": message, "logprobs": {"content": content}}]}
    ).encode()


def _as_text(
    text: str, rows: list[tuple[str, float, list[tuple[str, float]]]], body: dict[str, Any]
) -> bytes:
    logprobs = None
    if body.get("logprobs") is not None:
        logprobs = {
            "tokens": [t for t, _, _ in rows],
            "token_logprobs": [v for _, v, _ in rows],
            "top_logprobs": [dict(reversed(top)) for _, _, top in rows],
        }
    return json.dumps({"choices": [{"text": text, "logprobs": logprobs}]}).encode()


@contextmanager
def serving(says: Says) -> Iterator[tuple[str, Seen]]:
    """Gives the address, up to "/v1", and what the server sees."""
    seen = Seen()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with seen.lock:
                number = len(seen.bodies)
                seen.bodies.append(body)
                seen.headers.append(dict(self.headers))
                seen.paths.append(self.path)
                seen.at_once += 1
                seen.most_at_once = max(seen.most_at_once, seen.at_once)
            status, data = says(number, body)
            with seen.lock:
                seen.at_once -= 1
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            with suppress(BrokenPipeError):  # who asked may have been stopped
                self.wfile.write(data)

    with listening(Handler) as address:
        yield f"{address}/v1", seen
