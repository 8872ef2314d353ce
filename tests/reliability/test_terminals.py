"""The short form of `terminals.py`, and what needs an interpreter of its own."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from reliability.children import Children
from reliability.terminals import fuzz_terminals


def test_commands_in_odd_terminals_end_as_they_should(children: Children, tmp_path: Path) -> None:
    figures = fuzz_terminals(tmp_path / "terminals", children, seed=0, count=36)
    assert figures.faults() == []
    assert figures.runs == 36


def vitgan(*arguments: str, streams: str = "", **environment: str) -> tuple[int, str]:
    """Exit code and all output of a command in an interpreter of its own; `streams` as a shell writes them."""
    command = ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, "-m", "vitgan", *arguments]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, timeout=100)
    return done.returncode, (done.stdout + done.stderr).decode("latin-1")


@pytest.mark.parametrize(
    ("streams", "code"), [(">&-", 0), ("2>&-", 0), ("<&- >&- 2>&-", 0), (">/dev/full", 2), (">/dev/full 2>&-", 2)]
)
def test_streams_that_are_full_or_closed_at_the_start(streams: str, code: int) -> None:
    found, printed = vitgan("--help", streams=streams)
    assert found == code
    assert "Traceback" not in printed
    assert (os.strerror(errno.ENOSPC) in printed) == (streams == ">/dev/full")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_mistake_in_an_encoding_without_the_character(encoding: str) -> None:
    code, printed = vitgan("né×…", PYTHONIOENCODING=encoding)
    assert code == 2
    assert printed.startswith("vitgan: ")
    assert printed.count("\n") == 1


def test_figures_in_an_encoding_without_the_character() -> None:
    """Python's streams of the locale C, which let bytes of names through, and no other character."""
    code, printed = vitgan("info", PYTHONIOENCODING="ascii:surrogateescape")
    assert code == 0
    assert "Traceback" not in printed


def test_working_directory_that_is_gone_is_told(tmp_path: Path) -> None:
    place = tmp_path / "gone"
    place.mkdir()
    shell = f'cd {place} && rmdir {place} && exec "$@"'
    command = ["sh", "-c", shell, "sh", sys.executable, "-m", "vitgan", "explore", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert done.stderr.startswith("vitgan: the working directory is gone")
    assert done.stderr.count("\n") == 1
