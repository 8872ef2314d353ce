import errno
import hashlib
import http.client
import ssl

from refusals import refused
from vitgan.data.download import cache_folder, download

CONTENT = bytes(range(256)) * 4000
CHECKSUM = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


def test_fetched_once_with_progress(tmp_path, file_server):
    server, seen = file_server({"/a/file.bin": CONTENT}), []
    file = download(f"{server.url}/a/file.bin", CHECKSUM, on_progress=lambda *state: seen.append(state))
    assert file == tmp_path / "cache" / "downloads" / "file.bin"
    assert file.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    download(f"{server.url}/a/file.bin", CHECKSUM)
    assert server.requests == [("/a/file.bin", None)]


def test_a_broken_connection_is_resumed(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT}, breaks_after=400_000)
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=400000-", "bytes=800000-"]


def test_a_part_from_an_earlier_process_is_resumed(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT})
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT
    assert server.requests == [("/file.bin", "bytes=1000-")]


def test_a_complete_part_is_accepted(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT})
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT}, ranges=False)
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_kept(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT[:-1] + b"!"})
    with refused(f"{server.url}/file.bin", CHECKSUM):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path)
    assert not [file for file in tmp_path.iterdir() if not file.name.endswith(".lock") and file.name != "cache"]


def test_a_damaged_cached_file_is_fetched_again(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT})
    (tmp_path / "file.bin").write_bytes(b"damaged")
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT


def test_a_connection_that_brings_nothing_ends(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT}, breaks_after=0)
    with refused(f"{server.url}/file.bin", parameter="source"):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path)


def test_a_server_without_ranges_that_always_breaks_off_ends(tmp_path, file_server):
    server = file_server({"/file.bin": CONTENT}, breaks_after=400_000, ranges=False)
    with refused(f"{server.url}/file.bin", parameter="source"):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path)


def test_missing_files_and_servers_are_one_line(tmp_path, file_server):
    server = file_server({})
    with refused("404", parameter="source"):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path)
    server.close()
    with refused(f"{server.url}/file.bin", parameter="source"):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path)
    with refused("file:///etc/passwd", parameter="url"):
        download("file:///etc/passwd", CHECKSUM, folder=tmp_path)


def test_a_failure_of_the_network_while_it_sends_is_not_the_disks(tmp_path, file_server, monkeypatch):
    """Those of TLS and of routes are OSErrors as a full disk is, and no ConnectionErrors."""
    server, read = file_server({"/file.bin": CONTENT}), http.client.HTTPResponse.read
    failures = [ssl.SSLError(1, "bad record mac"), OSError(errno.ENETUNREACH, "unreachable")]

    def fail(response, *amount):
        if failures:
            raise failures.pop()
        return read(response, *amount)

    monkeypatch.setattr(http.client.HTTPResponse, "read", fail)
    assert download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path).read_bytes() == CONTENT
    failures += [ssl.SSLError(1, "bad record mac")] * 5
    with refused("bad record mac", parameter="source"):
        download(f"{server.url}/file.bin", CHECKSUM, folder=tmp_path / "other")


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("VITGAN_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("VITGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "vitgan"
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VITGAN_CACHE", str(tmp_path / "file"))
    with refused(tmp_path / "file", "VITGAN_CACHE", cause=FileExistsError):
        cache_folder()
