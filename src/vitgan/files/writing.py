"""Writing: a file is whole or as it was, and what cannot be written is a UserError before work is done for it."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from vitgan.errors import UserError
from vitgan.files.reading import user_error

LONGEST_NAME = 255 - len(".12345678.1234567.part")
"""File systems allow 255 bytes; what is written first has a longer name."""


@contextmanager
def atomic_path(path: Path, temporary: Path | None = None) -> Iterator[Path]:
    """Yields a path to write to; when the block ends well, what is there is forced to the disk and becomes `path`.

    Args:
        path: The file.
        temporary: Where it is written first, in the same folder; default `.NAME.part`.

    Raises:
        OSError: If it cannot be written (a full disk, a read-only folder); what was there before is still there.
    """
    temporary = temporary or path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file by `atomic_path`, which raises OSErrors as they are."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(data)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON by `atomic_path`."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """`atomic_path` for a file that the user named: its folders are made, and what fails is the user's to mend.

    The temporary path has the ending of `path`, by which libraries know what to write.

    Raises:
        UserError: If the place cannot be written to; what was there before is still there, and no new folder is.
    """
    check_file(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    in_words = user_error(f"cannot write {path}", OSError, advice="choose another path")
    with in_words, folders_above(path), atomic_path(path, temporary):
        yield temporary


@contextmanager
def folders_above(path: Path) -> Iterator[None]:
    """Makes the folders above `path`; those that are empty after the block go again."""
    new_folders = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for folder in new_folders:
            with suppress(OSError):
                folder.rmdir()


def check_writable(path: Path, what: str = "") -> None:
    """Refuses a path at which nothing can be made, before work is done for it; leaves nothing behind."""
    reason = None
    existing = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    if not existing.is_dir():
        reason = f"{existing} is not a folder"
    elif any(len(os.fsencode(name)) > LONGEST_NAME for name in path.parts):
        reason = f"a name may have {LONGEST_NAME} bytes"
    else:
        try:  # root is told that it may write where it cannot (/proc)
            Path(tempfile.mkdtemp(prefix=".vitgan.", dir=existing)).rmdir()
        except OSError as error:
            reason = f"{existing} cannot be written to ({error.strerror})"
    if reason:
        raise UserError(f"cannot write {what}{path}: {reason}; choose another path")


def check_file(path: Path, what: str = "", ending: str = "") -> Path:
    """Refuses a path that cannot become a file, before work is done for it; a regular file that is there may be replaced.

    Args:
        path: The file.
        what: What it is to be, for the message ("the image ").
        ending: What its name must end in (".onnx"), if anything.

    Returns:
        The path.
    """
    # os.path answers False, where Path raises, to names that are too long.
    if os.path.exists(path) and not os.path.isfile(path):  # noqa: PTH110, PTH113 - False for odd names
        raise UserError(f"cannot write {what}{path}: it is a folder or a device; pass the name of a file")
    if ending and path.suffix.lower() != ending:
        raise UserError(f"cannot write {what}{path}: it must end in {ending}")
    check_writable(path, what)
    return path


def lock_file(path: Path, timeout: float = -1) -> FileLock:
    """A lock that the system frees when the process ends; not acquired yet. It waits for `timeout` seconds, -1 for ever.

    On a file system without such locks acquiring it raises OSError: a file that stands for a lock would outlive a killed
    process, or be taken from a living one.
    """
    return FileLock(path, timeout, fallback_to_soft=False)


def sync_folder(folder: Path) -> None:
    """Makes renames inside a folder outlive a power cut, where the system can (POSIX)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
