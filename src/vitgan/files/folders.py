"""Folders that are written whole, and replaced only where every file in them is known to be ours.

A folder that vitgan wrote holds `.vitgan.json`, which names its files one by one with their SHA-256. It is replaced only if
it holds those files, unaltered, and nothing else: no other file, no link, no empty folder. Anything else is refused and left
as it is, also what a version without such markers wrote: nothing is guessed from names.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vitgan.errors import UserError
from vitgan.files.reading import read_model, sha256, user_error
from vitgan.files.writing import check_writable, folders_above, write_json
from vitgan.schema import Config

MARKER = ".vitgan.json"


class Marker(Config):
    """What `.vitgan.json` holds."""

    content: str
    """What the folder is: "web page", "model", ..."""
    files: dict[str, str]
    """Path inside the folder, parts separated by "/" -> SHA-256."""


def check_folder(folder: Path, content: str) -> None:
    """Refuses a place that may not be written to or replaced, before work is done for it.

    Args:
        folder: New, empty, or what an earlier call wrote.
        content: What it is to hold; a folder of ours with another content is refused too.
    """
    if not os.path.lexists(folder):
        check_writable(folder, f"the {content} ")
    elif folder.is_symlink():
        raise UserError(f"{folder} is a symbolic link, which is not replaced: pass the folder itself, or a new one")
    elif not folder.is_dir():
        raise UserError(f"{folder} is a file, and a folder is needed for the {content}: choose another")
    elif reason := _not_ours(folder, content):
        raise UserError(f"{folder} {reason}; nothing was changed: choose a new folder, or remove this one")
    elif not os.access(folder, os.W_OK):
        raise UserError(f"{folder} cannot be written to: choose another folder for the {content}")


@contextmanager
def new_folder(folder: Path, content: str) -> Iterator[Path]:
    """Yields an empty place; what was written there becomes the content of `folder` when the block ends well."""
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - "." and ".." have no name, and links stay links
    check_folder(folder, content)
    advice = "choose another folder"
    with user_error(f"cannot write the {content} {folder}", OSError, advice=advice), folders_above(folder):
        room = _room_beside(folder)
        try:
            place = room / "new"
            place.mkdir()
            yield place
            install(place, folder, content)
        finally:
            shutil.rmtree(room, ignore_errors=True)  # made above, under a name that nobody had


def install(place: Path, folder: Path, content: str) -> None:
    """Moves a finished folder, with a marker, to where it belongs; what was there, if it is ours, goes.

    Raises:
        UserError: If what is there may not be replaced.
        OSError: If it cannot be moved; what was there is then there again.
    """
    names = sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())
    files = {name: sha256(place / name) for name in names if name != MARKER}
    write_json(place / MARKER, Marker(content=content, files=files).model_dump())
    check_folder(folder, content)
    if not folder.exists():
        place.rename(folder)
        return
    # The folder itself stays: it may be the working directory, or where a disk is mounted.
    new, old = [path.name for path in place.iterdir()], _room_beside(folder)
    try:
        _move_all(folder, old, marker_last=False)
        _move_all(place, folder, marker_last=True)
    except BaseException:
        for name in new:
            if not os.path.lexists(place / name):
                shutil.move(folder / name, place / name)
        _move_all(old, folder, marker_last=True)
        old.rmdir()
        raise
    place.rmdir()
    remove_named_files(old) if (old / MARKER).exists() else old.rmdir()


def remove_named_files(folder: Path) -> None:
    """Removes the files that a folder's marker names, then the folder if nothing else is in it; links are not followed.

    Raises:
        UserError: If it has no marker.
        OSError: If a file cannot be removed.
    """
    marker = read_model(folder / MARKER, Marker, "folder of vitgan's")
    for name in [*_contents(folder, marker)[0], MARKER]:
        (folder / name).unlink(missing_ok=True)
    for path, _, _ in os.walk(folder, topdown=False):
        with suppress(OSError):
            Path(path).rmdir()


def add_file(folder: Path, file: Path) -> None:
    """Adds a file that was written later (a cache in an image store, say) to a folder's marker, if it has one."""
    with suppress(UserError, OSError):  # without it the folder is refused, not lost
        marker = read_model(folder / MARKER, Marker, "folder of vitgan's")
        named = marker.files | {file.relative_to(folder).as_posix(): sha256(file)}
        write_json(folder / MARKER, Marker(content=marker.content, files=named).model_dump())


def _not_ours(folder: Path, content: str) -> str | None:
    """Why a folder may not be replaced; None if it may."""
    try:
        if not any(folder.iterdir()):
            return None
        if (folder / MARKER).is_symlink() or not (folder / MARKER).is_file():
            return f"holds other files (there is no {MARKER} that names them as vitgan's)"
        marker = read_model(folder / MARKER, Marker, "folder of vitgan's")
        if marker.content != content:
            return f"holds a {marker.content}, not a {content}"
        named, others = _contents(folder, marker)
        if others:
            return f"holds {others[0]!r}, which vitgan did not write there"
        altered = next((name for name in named if sha256(folder / name) != marker.files[name]), None)
        return f"holds {altered!r}, which was changed since vitgan wrote it" if altered else None
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"


def _contents(folder: Path, marker: Marker) -> tuple[list[str], list[str]]:
    """What is in a folder: (files that the marker names, anything else but the marker)."""
    named, others = [], []
    expected_folders = {Path(name).parent for name in marker.files}
    expected_folders |= {parent for path in expected_folders for parent in path.parents}
    for path, folders, files in os.walk(folder, onerror=_raise):
        here = Path(path).relative_to(folder)
        for name in folders:
            if Path(path, name).is_symlink() or here / name not in expected_folders:
                others.append((here / name).as_posix())
        for name in files:
            full, inside = Path(path, name), (here / name).as_posix()
            ours = inside in marker.files and full.is_file() and not full.is_symlink()
            if inside != MARKER:
                (named if ours else others).append(inside)
    return named, sorted(others)


def _raise(error: OSError) -> None:
    raise error


def _room_beside(folder: Path) -> Path:
    """A new folder on the same disk where that can be; elsewhere for one that is mounted, say, beside nothing."""
    parent = folder.parent if os.access(folder.parent, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=parent))


def _move_all(source: Path, destination: Path, marker_last: bool) -> None:
    """Moves what is in a folder into another; the marker leaves first and comes last, so that no half is taken for ours."""
    for path in sorted(source.iterdir(), key=lambda path: (path.name == MARKER) == marker_last):
        shutil.move(path, destination / path.name)
