"""Downloads into the cache: resumed where they broke off, and trusted only with the right checksum."""

import hashlib
import http
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from vitgan.errors import UserError
from vitgan.files import lock_file, user_error

BLOCK_BYTES = 1 << 18
TIMEOUT_SECONDS = 30
ATTEMPTS = 5

Progress = Callable[[int, int], None]


def cache_folder() -> Path:
    """The user's cache folder, made if absent: $VITGAN_CACHE, else $XDG_CACHE_HOME/vitgan, else ~/.cache/vitgan.

    Raises:
        UserError: The folder cannot be made.
    """
    own = os.environ.get("VITGAN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "vitgan"
    with user_error(f"cannot make the cache folder {folder}", OSError, advice="set VITGAN_CACHE"):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def download(url: str, checksum: str, *, folder: Path | None = None, on_progress: Progress | None = None) -> Path:
    """Fetches a file once; later calls return the cached one.

    Args:
        url: http or https; the file keeps its last component as name.
        checksum: "sha256:HEX" or "md5:HEX" of the content.
        folder: Where to keep it; None for `downloads` in the user's cache folder.
        on_progress: Called with (bytes received, bytes in all); the total is 0 while unknown.

    Returns:
        The complete file.

    Raises:
        UserError: It cannot be fetched, or its checksum is wrong.
    """
    if not url.startswith(("http://", "https://")):
        raise UserError(f"cannot download {url}: expected an address that begins with http:// or https://", "url")
    folder = folder or cache_folder() / "downloads"
    file = folder / url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    part = file.with_name(file.name + ".part")
    report = on_progress or (lambda done, total: None)
    with user_error(f"cannot write to {folder}", OSError, advice="set VITGAN_CACHE"):
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file(folder / f".{file.name}.lock"):
            if file.is_file() and _digest(file, checksum) == checksum:
                report(file.stat().st_size, file.stat().st_size)
                return file
            _fetch(url, part, report)
            found = _digest(part, checksum)
            if found != checksum:
                part.unlink()
                raise UserError(f"what {url} sent is not the expected file ({found} instead of {checksum}): try again")
            part.replace(file)
    return file


def _fetch(url: str, part: Path, report: Progress) -> None:
    """Appends what is missing; goes on where a connection broke, until five attempts in a row bring nothing."""
    failures, reason = 0, ""
    with part.open("ab") as file:
        while failures < ATTEMPTS:
            before = done = file.seek(0, os.SEEK_END)
            request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
            try:
                with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
                    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
                        done = file.truncate(0)
                    length = response.headers.get("Content-Length")
                    total = done + int(length) if length else 0
                    while block := _read(response):
                        done += file.write(block)
                        report(done, total)
                if done >= total:
                    return
                reason = "the connection broke off"
            except urllib.error.HTTPError as error:
                if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return  # nothing is missing; the checksum decides
                reason = f"the server answers {error.code} {error.reason}"
                break
            except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
                reason = str(getattr(error, "reason", error)) or type(error).__name__
            failures = 0 if done > before else failures + 1
    raise UserError(f"cannot download {url}: {reason}: fetch it by other means and pass the file", "source")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK_BYTES)
    except OSError as error:  # of TLS, of a network that is gone: not of the disk that it is written to
        raise ConnectionError(str(error) or type(error).__name__) from error


def _digest(file: Path, checksum: str) -> str:
    kind = checksum.split(":")[0]
    with file.open("rb") as opened:
        return f"{kind}:{hashlib.file_digest(opened, kind).hexdigest()}"
