"""A hub on this machine: what huggingface_hub asks a server for, answered from a dictionary of files."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """files: content by "owner/name/path". hashes: what is told of a file, where that is a lie.

    cut: bytes after which the next answer breaks off. asked: (method, path, Range) of every request. commit:
    what the main branch stands at; gone: commits that are no more.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.hashes: dict[str, str] = {}
        self.cut: int | None = None
        self.commit = COMMIT
        self.gone: set[str] = set()
        self.asked: list[tuple[str, str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *_: object) -> None: ...

    def _answer(self, body: bool) -> None:
        asked = self.headers.get("Range")
        self.server.asked.append((self.command, self.path, asked))
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path.partition("?")[0])
        name = f"{match[1]}/{match[3]}" if match else ""
        branch = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/main", self.path.partition("?")[0])
        if branch:
            self._send(json.dumps({"id": branch[1], "sha": self.server.commit}).encode())
            return
        commit = match[2] if match and match[2] != "main" else self.server.commit
        if name not in self.server.files or commit in self.server.gone:
            gone = commit in self.server.gone
            self.send_response(404)
            self.send_header("X-Error-Code", "RevisionNotFound" if gone else "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        content = self.server.files[name]
        start = int(asked.removeprefix("bytes=").partition("-")[0]) if asked else 0
        digest = self.server.hashes.get(name, hashlib.sha256(content).hexdigest())
        self.send_response(206 if asked else 200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if body:
            end, self.server.cut = self.server.cut, None
            self.wfile.write(content[start:end])
            self.close_connection = True

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@contextmanager
def running(files: dict[str, bytes]) -> Iterator[Hub]:
    with Hub(files) as hub:
        thread = Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
