"""Folders that are replaced: what is ours goes, everything else stays as it is, to the byte."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from refusals import refused
from vitgan.errors import UserError
from vitgan.files import folders
from vitgan.files.folders import MARKER, add_file, check_folder, new_folder, remove_named_files


def write(folder: Path, *names: str, text: str = "ours") -> Path:
    with new_folder(folder, "test") as place:
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).write_text(text + name)
    return folder


def everything(folder: Path) -> dict[str, object]:
    """All that is below a folder: contents of files, targets of links, None for folders."""
    return {
        str(p.relative_to(folder)): p.readlink() if p.is_symlink() else p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def test_it_is_replaced_whole(tmp_path: Path) -> None:
    folder = write(tmp_path / "a" / "out", "one", "sub/two")
    write(folder, "three", text="new")
    assert sorted(everything(folder)) == [MARKER, "three"]
    assert (folder / "three").read_text() == "newthree"
    assert sorted(everything(tmp_path)) == ["a", "a/out", f"a/out/{MARKER}", "a/out/three"]


def test_an_empty_folder_is_filled_and_stays_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = tmp_path.stat().st_ino
    write(Path(), "one")
    write(Path(), "two")
    assert (tmp_path.stat().st_ino, sorted(everything(tmp_path))) == (before, [MARKER, "two"])


def test_what_the_user_removed_is_not_missed(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", "one", "two")
    (folder / "one").unlink()
    write(folder, "three")
    assert sorted(everything(folder)) == [MARKER, "three"]


def add_a_file(folder: Path) -> None:
    (folder / "notes").write_text("mine")


def add_a_git_repository(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("ref: refs/heads/main")


def add_an_empty_folder(folder: Path) -> None:
    (folder / "later").mkdir()


def add_a_file_deep_inside(folder: Path) -> None:
    (folder / "sub" / "notes").write_text("mine")


def add_a_link(folder: Path) -> None:
    (folder / "link").symlink_to(folder.parent / "precious")


def change_a_file(folder: Path) -> None:
    (folder / "one").write_text("changed by hand")


def change_a_file_keeping_its_size(folder: Path) -> None:
    (folder / "one").write_text("ourSone")


def put_a_link_in_place_of_a_file(folder: Path) -> None:
    (folder / "one").unlink()
    (folder / "one").symlink_to(folder.parent / "precious" / "same")


def put_a_link_in_place_of_a_folder(folder: Path) -> None:
    shutil.rmtree(folder / "sub")
    (folder / "sub").symlink_to(folder.parent / "precious")


def put_a_folder_in_place_of_a_file(folder: Path) -> None:
    (folder / "one").unlink()
    (folder / "one").mkdir()
    (folder / "one" / "thesis").write_text("mine")


def lose_the_marker(folder: Path) -> None:
    (folder / MARKER).unlink()


def break_the_marker(folder: Path) -> None:
    (folder / MARKER).write_text("{")


def empty_the_marker(folder: Path) -> None:
    (folder / MARKER).write_text(json.dumps({"content": "test", "files": {}}))


def mark_another_content(folder: Path) -> None:
    marker = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps(marker | {"content": "else"}))


def link_the_marker(folder: Path) -> None:
    shutil.move(folder / MARKER, folder.parent / "marker")
    (folder / MARKER).symlink_to(folder.parent / "marker")


def imitate_by_names(folder: Path) -> None:
    """A page of another program's, or of a version of ours without markers."""
    for name in ("model.json", "dataset.json", "images.npy", "config.json", "model.safetensors", "000000.png"):
        (folder / name).write_text("{}")
    (folder / MARKER).unlink()


@pytest.mark.parametrize(
    "meddle",
    [
        add_a_file,
        add_a_git_repository,
        add_an_empty_folder,
        add_a_file_deep_inside,
        add_a_link,
        change_a_file,
        change_a_file_keeping_its_size,
        put_a_link_in_place_of_a_file,
        put_a_link_in_place_of_a_folder,
        put_a_folder_in_place_of_a_file,
        lose_the_marker,
        break_the_marker,
        empty_the_marker,
        mark_another_content,
        link_the_marker,
        imitate_by_names,
    ],
)
def test_anything_else_is_refused_and_untouched(tmp_path: Path, meddle: Callable[[Path], None]) -> None:
    (tmp_path / "precious").mkdir()
    for name in ("same", "two"):
        (tmp_path / "precious" / name).write_text("oursone")
    folder = write(tmp_path / "out", "one", "sub/two")
    meddle(folder)
    before = everything(tmp_path)
    with pytest.raises(UserError) as error:
        write(folder, "three")
    assert "\n" not in str(error.value)
    assert everything(tmp_path) == before


def test_links_files_and_places_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(write(tmp_path / "out", "one"))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "file").write_text("mine")
    before = everything(tmp_path)
    for path in ("link", "dangling", "file", "file/below", "x" * 255, "new/" + "x" * 250):
        with pytest.raises(UserError):
            write(tmp_path / path, "two")
    with pytest.raises(UserError):
        check_folder(Path("/proc/nowhere/out"), "test")
    assert everything(tmp_path) == before


def write_half(folder: Path, failure: BaseException) -> None:
    with new_folder(folder, "test") as place:
        (place / "half").write_text("half")
        raise failure


def test_work_that_fails_leaves_nothing(tmp_path: Path) -> None:
    old = write(tmp_path / "old", "one")
    before = everything(tmp_path)
    for folder in (old, tmp_path / "new" / "deep"):
        for failure in (UserError("no"), KeyboardInterrupt(), RuntimeError("no")):
            with pytest.raises(type(failure)):
                write_half(folder, failure)
        with refused(folder, cause=errno.ENOSPC):
            write_half(folder, OSError(errno.ENOSPC, "full"))
    assert everything(tmp_path) == before


@pytest.mark.parametrize("fails_at", range(6))
def test_a_move_that_fails_is_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    folder = write(tmp_path / "out", "one", "sub/two")
    before = everything(tmp_path)
    moves: list[object] = []

    def move(source: Path, destination: Path) -> None:
        moves.append(source)
        if len(moves) == fails_at + 1:
            raise OSError(errno.EIO, "broken")
        os.rename(source, destination)  # noqa: PTH104

    monkeypatch.setattr(folders.shutil, "move", move)
    with refused(folder, cause=errno.EIO):
        write(folder, "one", "three", text="new")
    assert everything(tmp_path) == before


def test_what_arrives_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, digest = write(tmp_path / "out", "one"), folders.sha256

    def arrive(path: Path) -> str:
        (folder / "late").write_text("mine")
        return digest(path)

    monkeypatch.setattr(folders, "sha256", arrive)
    with refused(folder, "'late'"):
        write(folder, "two")
    monkeypatch.setattr(folders, "sha256", digest)
    assert sorted(everything(folder)) == [MARKER, "late", "one"]
    (folder / "late").unlink()
    check = folders.check_folder

    def then_one_more(path: Path, content: str) -> None:
        check(path, content)
        (folder / "later").write_text("mine")

    with new_folder(folder, "test") as place:
        (place / "two").write_text("new")
        monkeypatch.setattr(folders, "check_folder", then_one_more)
    assert sorted(everything(folder)) == [MARKER, "two"]
    assert "mine" in [p.read_text() for p in tmp_path.rglob("later")]


def test_files_that_came_later_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", "one")
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "cache").write_text("ours too")
    add_file(folder, folder / "evaluation" / "cache")
    write(folder, "two")
    assert sorted(everything(folder)) == [MARKER, "two"]
    (tmp_path / "plain").write_text("")
    add_file(tmp_path, tmp_path / "plain")  # a folder without a marker gets none
    assert not (tmp_path / MARKER).exists()


def test_only_named_files_are_removed(tmp_path: Path) -> None:
    folder = write(tmp_path / "out", "one", "sub/two")
    (folder / "sub" / "mine").write_text("mine")
    remove_named_files(folder)
    assert everything(tmp_path) == {"out": None, "out/sub": None, "out/sub/mine": b"mine"}
    with pytest.raises(UserError):
        remove_named_files(folder)


def test_others_may_read_what_was_written(tmp_path: Path) -> None:
    """As a folder that mkdir makes: a web server runs as another user."""
    (tmp_path / "plain").mkdir()
    assert write(tmp_path / "out", "one").stat().st_mode == (tmp_path / "plain").stat().st_mode
