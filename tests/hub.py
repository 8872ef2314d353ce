"""A Hugging Face Hub of one's own on 127.0.0.1: the few addresses that fetching a model asks for."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Repositories (name -> file -> bytes), each with one commit, which "main" and "v1" name; and its refusals.

    `asked` collects the paths of all requests.
    """

    repositories: dict[str, dict[str, bytes]]
    gated: frozenset[str] = frozenset()
    revisions: tuple[str, ...] = ("main", "v1", COMMIT)
    asked: list[str]

    def do_GET(self) -> None:
        """Answers repository information, a listing, or a file."""
        self.asked.append(self.path)
        path = self.path.split("?")[0].strip("/")
        for prefix in ("api/models/", "api/datasets/", "datasets/"):
            path = path.removeprefix(prefix)
        parts = path.split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name in self.gated:
            self._answer(403, b"{}", {"X-Error-Code": "GatedRepo"})
        elif name not in self.repositories:
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif len(rest) > 1 and rest[1] not in self.revisions:
            self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        elif self.path.startswith("/api/"):
            self._answer(200, json.dumps(self._described(name, rest)).encode(), {"Content-Type": "application/json"})
        elif (data := self.repositories[name].get("/".join(rest[2:]))) is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        else:
            self._answer(200, data, {"ETag": f'"{hashlib.sha1(data).hexdigest()}"', "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def _described(self, name: str, rest: list[str]) -> object:
        files = self.repositories[name]
        if rest[0] == "tree":
            return [
                {"type": "file", "path": path, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for path, data in files.items()
            ]
        return {"id": name, "sha": COMMIT, "private": False, "siblings": [{"rfilename": path} for path in files]}

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def running_hub(
    repositories: dict[str, dict[str, bytes]], gated: frozenset[str] = frozenset()
) -> Iterator[tuple[str, list[str]]]:
    """Yields the hub's address and the list of what it is asked for."""
    asked: list[str] = []
    handler = type("OneHub", (Hub,), {"repositories": repositories, "gated": gated, "asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
