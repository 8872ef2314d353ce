"""A file is whole or as it was, whatever the disk does, and no half is left over."""

import errno
import os
from pathlib import Path

import pytest

from vitgan.errors import UserError
from vitgan.files.writing import (
    LONGEST_NAME,
    atomic_path,
    check_file,
    check_writable,
    whole_file,
    write_bytes,
    write_json,
)


def full_disk(descriptor: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("before", [None, b"old"])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: bytes | None
) -> None:
    file = tmp_path / "x.json"
    if before is not None:
        file.write_bytes(before)
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_bytes(file, b"new")
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        write_json(file, {"a": 1})
    with pytest.raises(UserError), whole_file(file) as temporary:
        temporary.write_bytes(b"new")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {} if before is None else {"x.json": before}
    )


def test_what_cannot_be_said_in_json_is_not_half_written(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "x.json", {"a": object()})
    assert [path.read_text() for path in tmp_path.iterdir()] == ['{\n  "a": 1\n}\n']


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_block_that_fails_writes_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    for writer in (atomic_path, whole_file):
        file = tmp_path / "new" / "x" if writer is whole_file else tmp_path / "x"
        with pytest.raises(error), writer(file) as place:  # noqa: PT012
            place.write_bytes(b"half")
            raise error
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass
    assert (tmp_path / "x").read_bytes() == b"old"


def test_new_folders_of_a_file_stay_with_it(tmp_path: Path) -> None:
    with whole_file(tmp_path / "a" / "b" / "grid.png") as place:
        assert place.suffix == ".png"
        place.write_bytes(b"grid")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["grid.png"]


def test_places_where_no_file_can_be_are_refused_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    for path in (
        tmp_path,
        tmp_path / "pipe",
        tmp_path / "file" / "x.png",
        tmp_path / "gone" / "x.png",
        tmp_path / ("x" * (LONGEST_NAME - 3) + ".png"),
        tmp_path / ("x" * 300) / "x.png",
        Path("/proc/x.png"),
        tmp_path / "x.gif",
    ):
        with pytest.raises(UserError) as error:
            check_file(path, ending=".png")
        assert str(error.value).isprintable()
    with pytest.raises(UserError):
        check_writable(tmp_path / "file" / "folder")
    check_file(tmp_path / ("x" * (LONGEST_NAME - 4) + ".png"), ending=".png")
    check_writable(tmp_path / "new" / "folder")
    assert sorted(tmp_path.iterdir()) == before
