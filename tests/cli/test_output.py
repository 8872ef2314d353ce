"""Standard streams: they never fail, never wait for long, and leave other programs' view of a pipe as it is."""

import os
import threading
from pathlib import Path

import pytest

import vitgan.cli.output as output
from vitgan.cli.output import Output


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> tuple[int, int]:
    monkeypatch.setattr(output, "PATIENCE_SECONDS", 0.05)
    return os.pipe()


def fill(descriptor: int) -> int:
    """Writes until nothing more fits; returns how much did."""
    os.set_blocking(descriptor, False)
    written = 0
    try:
        while True:
            written += os.write(descriptor, bytes(4096))
    except BlockingIOError:
        os.set_blocking(descriptor, True)
        return written


def test_all_is_written_where_it_is_read(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    data, found = os.urandom(1_000_000), bytearray()

    def read() -> None:
        while part := os.read(reading, 65536):
            found.extend(part)

    reader = threading.Thread(target=read)
    reader.start()
    stream = Output(writing)
    assert stream.write(data) == len(data)
    os.close(writing)
    reader.join()
    assert bytes(found) == data
    assert stream.lost is None


def test_reader_that_left_is_no_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    stream = Output(writing)
    assert stream.write(b"line\n") == 5
    assert isinstance(stream.lost, BrokenPipeError)


def test_reader_that_does_not_read_loses_lines_until_it_reads_again(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    size = fill(writing)
    stream = Output(writing)
    assert stream.write(b"lost\n") == 5
    assert isinstance(stream.lost, TimeoutError)
    while size:
        size -= len(os.read(reading, size))
    stream.write(b"kept\n")
    assert os.read(reading, 100) == b"kept\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_full_disk_is_no_error() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full:
        stream = Output(full.fileno())
        assert stream.write(b"line\n") == 5
        assert stream.lost is not None


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="pipes are opened anew by /proc")
def test_pipe_shared_with_other_programs_stays_as_it_is_for_them(pipe: tuple[int, int]) -> None:
    _, theirs = pipe
    ours = os.dup(theirs)
    output._never_wait_for(ours)
    assert not os.get_blocking(ours)
    assert os.get_blocking(theirs)
