import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    """No test touches the user's cache."""
    monkeypatch.setenv("VITGAN_CACHE", str(tmp_path / "cache"))


class FileServer:
    """A loopback web server that knows ranges and can break off."""

    def __init__(self, files: dict[str, bytes], breaks_after: int | None, ranges: bool) -> None:
        self.requests: list[tuple[str, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                wanted = self.headers.get("Range") if ranges else None
                outer.requests.append((self.path, wanted))
                if self.path not in files:
                    self.send_error(404)
                    return
                data, start = files[self.path], int(wanted[6:-1]) if wanted else 0
                if wanted and start >= len(data):
                    self.send_error(416)
                    return
                self.send_response(206 if wanted else 200)
                self.send_header("Content-Length", str(len(data) - start))
                self.end_headers()
                self.wfile.write(data[start:][:breaks_after])

            def log_message(self, format, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def file_server():
    """Starts loopback servers: `file_server({"/path": content}, breaks_after=None, ranges=True)`."""
    servers = []

    def start(files: dict[str, bytes], breaks_after: int | None = None, ranges: bool = True) -> FileServer:
        servers.append(FileServer(files, breaks_after, ranges))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
