"""The page and a small endpoint for scripts, on this machine only (127.0.0.1), by Python's own server."""

import io
import json
import threading
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

import torch
from pydantic import Field, ValidationError

from vitgan.errors import UserError
from vitgan.files import user_error
from vitgan.files.pictures import image_grid
from vitgan.models.generator import Generator
from vitgan.schema import Config, first_problem

HOST = "127.0.0.1"


class Query(Config):
    """What can be asked of /api/image.png."""

    seed: int = Field(default=0, ge=0, lt=2**32)
    count: int = Field(default=1, ge=1, le=64)
    truncation: float = Field(default=1.0, ge=0, le=2)
    label: str | None = None
    """A class's name or index; by default each seed has its own."""
    enlarge: int = Field(default=1, ge=1, le=16)

    @classmethod
    def read(cls, text: str) -> Self:
        """The query of an address.

        Raises:
            UserError: If it names something else or twice, or a value is out of bounds.
        """
        pairs = parse_qsl(text, keep_blank_values=True)
        if len(dict(pairs)) < len(pairs):
            raise UserError("a parameter is given twice")
        try:
            return cls.model_validate(dict(pairs))
        except ValidationError as error:
            raise UserError(" ".join(first_problem(error))) from error


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, and:

    GET /api/info -> JSON: resolution, channels, classes, class_names, z_dim.
    GET /api/image.png?seed=0&count=1&truncation=1&label=cat&enlarge=1 -> PNG: the image of a seed, or a grid of so many
    from that seed on; see `Query`.

    Paths are resolved inside the folder by `SimpleHTTPRequestHandler`; folders are not listed.
    """

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".js": "text/javascript",
        ".wasm": "application/wasm",
        ".onnx": "application/octet-stream",
    }
    server_version = "vitgan"

    def __init__(self, *args: object, generator: Generator, lock: threading.Lock, folder: Path | None) -> None:
        self.generator, self.lock, self.folder = generator, lock, folder
        super().__init__(*args, directory=str(folder) if folder else None)  # pyright: ignore[reportArgumentType]

    def handle(self) -> None:
        """Answers requests; one that nobody waits for any more, since a page was left, is no error."""
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        """Answers the endpoint's two addresses, else a file."""
        if not self._is_local():
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own machine's names only")
            return
        address = urlsplit(self.path)
        try:
            if address.path == "/api/info":
                self._answer("application/json", json.dumps(self._info()).encode())
            elif address.path == "/api/image.png":
                self._answer("image/png", self._png(Query.read(address.query)))
            elif self.folder is None:
                self.send_error(HTTPStatus.NOT_FOUND, "no page is served: see /api/info")
            else:
                super().do_GET()
        except UserError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, ascii(str(error))[1:-1])  # a status line is Latin-1

    def do_HEAD(self) -> None:
        """As `do_GET` without a body, for files only."""
        if self.folder is None or not self._is_local():
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            super().do_HEAD()

    def list_directory(self, path: object) -> None:
        """No listings."""
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: each picture would be a line."""

    def _is_local(self) -> bool:
        # A page of another site that resolves its own name to 127.0.0.1 would send that name.
        host = self.headers.get("Host", "").rsplit(":", 1)[0]
        return host in (HOST, "localhost")

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _info(self) -> dict[str, object]:
        made = self.generator
        return {
            "resolution": made.image_size,
            "channels": made.image_channels,
            "classes": made.num_classes,
            "class_names": made.class_names,
            "z_dim": made.z_dim,
        }

    def _png(self, query: Query) -> bytes:
        labels = None if query.label is None else torch.full((query.count,), self.generator.class_of(query.label))
        seeds = range(query.seed, query.seed + query.count)
        with self.lock:
            images = list(self.generator.of_seeds(seeds, query.truncation, labels))
        file = io.BytesIO()
        image_grid(torch.cat(images), enlarge=query.enlarge).save(file, "PNG")
        return file.getvalue()


def make_server(generator: Generator, folder: Path | None, port: int) -> ThreadingHTTPServer:
    """A server that is bound but does not run yet; port 0 takes a free one.

    Args:
        generator: Draws the endpoint's images, one request at a time.
        folder: The page; None serves the endpoint alone.
        port: On 127.0.0.1.

    Raises:
        UserError: If the port is taken or not allowed.
    """
    handler = partial(Handler, generator=generator, lock=threading.Lock(), folder=folder)
    what = f"cannot serve on port {port}"
    with user_error(what, OSError, OverflowError, advice="choose another", parameter="port"):
        return ThreadingHTTPServer((HOST, port), handler)
