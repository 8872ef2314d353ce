import http.client
import io
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from generators import make
from vitgan.errors import UserError
from vitgan.export.serve import make_server
from vitgan.files.pictures import image_grid
from vitgan.pretrained.generators import save

GENERATOR = make("vit", num_classes=3)
GENERATOR.class_names = ("ант", "bat", "cat")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path / "page"
    (folder / "runtime").mkdir(parents=True)
    (folder / "index.html").write_text("the page")
    (folder / "runtime" / "ort.mjs").write_text("")
    (folder / "runtime" / "ort.wasm").write_text("")
    (tmp_path / "secret").write_text("secret")
    with make_server(GENERATOR, folder, port=0) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server: ThreadingHTTPServer, path: str, host: str | None = None) -> tuple[int, str, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    connection.request("GET", path, headers={"Host": host} if host else {})
    response = connection.getresponse()
    answer = response.status, response.getheader("Content-Type", ""), response.read()
    connection.close()
    return answer


def test_page_and_kinds_of_files(server: ThreadingHTTPServer) -> None:
    assert get(server, "/") == (200, "text/html", b"the page")
    assert get(server, "/runtime/ort.mjs")[1] == "text/javascript"
    assert get(server, "/runtime/ort.wasm")[1] == "application/wasm"
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize(
    "path", ["/../secret", "/%2e%2e/secret", "/runtime/../../secret", "/..%2fsecret", "//../secret", "/runtime/"]
)
def test_nothing_outside_the_folder_and_no_listings(server: ThreadingHTTPServer, path: str) -> None:
    status, _, body = get(server, path)
    assert status == 404
    assert body != b"secret"


def test_a_page_that_was_left_is_no_error(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    done, errors, close = threading.Event(), [], server.shutdown_request
    monkeypatch.setattr(server, "handle_error", lambda *_: errors.append(sys.exception()))
    monkeypatch.setattr(server, "shutdown_request", lambda request: (close(request), done.set()))
    with socket.create_connection(("127.0.0.1", server.server_port)) as browser:
        browser.sendall(b"GET /api/image.png?count=64&enlarge=16 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        browser.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    assert done.wait(20)
    assert errors == []


def test_info(server: ThreadingHTTPServer) -> None:
    status, kind, body = get(server, "/api/info")
    assert (status, kind) == (200, "application/json")
    assert json.loads(body) == {
        "resolution": 16,
        "channels": 3,
        "classes": 3,
        "class_names": ["ант", "bat", "cat"],
        "z_dim": 8,
    }


@pytest.mark.parametrize(("label", "classes"), [("&label=2", [2] * 5), ("&label=cat", [2] * 5), ("", [0, 1, 2, 0, 1])])
def test_images_are_those_of_their_seeds(server: ThreadingHTTPServer, label: str, classes: list[int]) -> None:
    status, kind, body = get(server, f"/api/image.png?seed=3&count=5&truncation=0.7&enlarge=2{label}")
    assert (status, kind) == (200, "image/png")
    alone = [GENERATOR.sample(1, 3 + k, 0.7, torch.tensor([c])) for k, c in enumerate(classes)]
    shown = np.asarray(Image.open(io.BytesIO(body))).astype(int)
    assert np.abs(shown - np.asarray(image_grid(torch.cat(alone), enlarge=2))).max() <= 1


@pytest.mark.parametrize(
    "query",
    [
        "count=65",
        "count=0",
        "count=1e3",
        "seed=-1",
        "seed=4294967296",
        f"seed={'9' * 400}",
        f"label={'9' * 5000}",
        "label=1&label=1",
        "label=%E7%8C%AB",
        "%E7%8C%AB=1",
        "truncation=nan",
        "truncation=inf",
        "label=3",
        "enlarge=17",
        "count=",
        "seed=1&seed=2",
        "file=/etc/passwd",
    ],
)
def test_sizes_are_bounded(server: ThreadingHTTPServer, query: str) -> None:
    assert get(server, f"/api/image.png?{query}")[0] == 400


def test_other_names_of_this_machine_are_refused(server: ThreadingHTTPServer) -> None:
    assert get(server, "/api/info", host="evil.example")[0] == 403
    assert get(server, "/api/info", host=f"localhost:{server.server_port}")[0] == 200


def test_a_taken_port_is_one_line(server: ThreadingHTTPServer) -> None:
    for port in (server.server_port, 70_000):
        with pytest.raises(UserError) as error:
            make_server(GENERATOR, None, port)
        assert error.value.parameter == "port"


def test_a_server_that_is_told_to_end_leaves_nothing(tmp_path: Path) -> None:
    model = save(GENERATOR, tmp_path / "model")
    (tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "vitgan", "serve", str(model), "--no-page", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert "127.0.0.1" in process.stdout.readline()
        assert len(list((tmp_path / "temporary").iterdir())) == 1
        process.terminate()
        assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert not list((tmp_path / "temporary").iterdir())
