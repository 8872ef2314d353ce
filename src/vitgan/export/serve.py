"""The page and a small endpoint for scripts, on this machine only (127.0.0.1), by Python's own server."""

import io
import json
import threading
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import torch

from vitgan.errors import UserError
from vitgan.files.pictures import image_grid
from vitgan.models.generator import Generator

HOST = "127.0.0.1"
LARGEST_COUNT = 64
LARGEST_ENLARGEMENT = 16
SEED_LIMIT = 2**32


class BadRequest(Exception):
    """A query that cannot be answered; the text goes back to the asker."""


class Handler(SimpleHTTPRequestHandler):
    """Files of one folder, and:

    GET /api/info -> JSON: resolution, channels, classes, class_names, z_dim.
    GET /api/image.png?seed=0&count=1&truncation=1&label=cat&enlarge=1 -> PNG: the image of a seed, or a grid of so many
    from that seed on. The label is a class's name or index; by default each seed has its own.

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

    def do_GET(self) -> None:
        """Answers the endpoint's two addresses, else a file."""
        if not self._is_local():
            self.send_error(HTTPStatus.FORBIDDEN, "this server answers to its own machine's names only")
            return
        address = urlsplit(self.path)
        try:
            if address.path == "/api/info":
                self._answer("application/json", json.dumps(describe(self.generator)).encode())
            elif address.path == "/api/image.png":
                self._answer("image/png", self._png(parse_qs(address.query, keep_blank_values=True)))
            elif self.folder is None:
                self.send_error(HTTPStatus.NOT_FOUND, "no page is served: see /api/info")
            else:
                super().do_GET()
        except (BadRequest, UserError) as error:
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

    def _png(self, query: dict[str, list[str]]) -> bytes:
        unknown = query.keys() - {"seed", "count", "truncation", "label", "enlarge"}
        if unknown:
            raise BadRequest(f"unknown parameter {min(unknown)!r}")
        count = int(number(query, "count", 1, 1, LARGEST_COUNT, whole=True))
        seed = int(number(query, "seed", 0, 0, SEED_LIMIT - 1, whole=True))
        truncation = number(query, "truncation", 1, 0, 2)
        enlarge = int(number(query, "enlarge", 1, 1, LARGEST_ENLARGEMENT, whole=True))
        labels = None
        if "label" in query:
            if len(query["label"]) > 1:
                raise BadRequest("label must be one class")
            labels = torch.full((count,), self.generator.class_of(query["label"][0]))
        with self.lock:
            images = list(self.generator.of_seeds(range(seed, seed + count), truncation, labels))
        file = io.BytesIO()
        image_grid(torch.cat(images), enlarge=enlarge).save(file, "PNG")
        return file.getvalue()


def number(
    query: dict[str, list[str]], name: str, default: float, least: float, most: float, whole: bool = False
) -> float:
    """A number of a query within bounds.

    Raises:
        BadRequest: If it is none, is out of range, or was given twice.
    """
    values = query.get(name, [str(default)])
    try:
        value = int(values[0]) if whole else float(values[0])
    except ValueError:
        value = float("nan")
    if len(values) != 1 or not least <= value <= most:
        raise BadRequest(f"{name} must be one {'whole number' if whole else 'number'} from {least} to {most}")
    return value


def describe(generator: Generator) -> dict[str, object]:
    """What /api/info answers."""
    return {
        "resolution": generator.resolution,
        "channels": generator.channels,
        "classes": generator.num_classes,
        "class_names": generator.class_names,
        "z_dim": generator.z_dim,
    }


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
    try:
        return ThreadingHTTPServer((HOST, port), handler)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot serve on port {port}: {reason}; choose another", "port") from error
