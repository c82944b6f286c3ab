"""A stand-in of the Hugging Face Hub on loopback: it serves what its library asks for."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

from loopback import listening

COMMIT = "c0ffee" + "0" * 34

Files = Mapping[str, bytes]
"""Path inside the repository → content."""


def parquet(rows: Sequence[Mapping[str, Any]]) -> bytes:
    import pyarrow
    from pyarrow.parquet import write_table

    out = io.BytesIO()
    write_table(pyarrow.Table.from_pylist(list(rows)), out)
    return out.getvalue()


@contextmanager
def standing_in(repositories: Mapping[str, Files]) -> Iterator[tuple[str, list[str]]]:
    """Serves data sets (id → files); gives the address and the list of paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = unquote(self.path.split("?")[0]).strip("/")
            asked.append(path)
            status, data, headers = self._find(path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def _find(self, path: str) -> tuple[int, bytes, dict[str, str]]:
            for id, files in repositories.items():
                if path.startswith(f"api/datasets/{id}"):
                    return 200, self._about(id, files, path), {"Content-Type": "application/json"}
                if path.startswith(f"datasets/{id}/resolve/"):
                    name = path.split("/resolve/")[1].removeprefix("refs/convert/parquet/")
                    name = name.removeprefix(f"{COMMIT}/")
                    if name in files:
                        etag = hashlib.sha256(files[name]).hexdigest()
                        return 200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT}
            return 404, b"{}", {"X-Error-Code": "RepoNotFound"}

        def _about(self, id: str, files: Files, path: str) -> bytes:
            if "/tree/" in path:
                tree = [
                    {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()}
                    for n, b in files.items()
                ]
                return json.dumps(tree).encode()
            siblings = [{"rfilename": name} for name in files]
            return json.dumps({"id": id, "sha": COMMIT, "siblings": siblings}).encode()

    with listening(Handler) as address:
        yield address, asked
