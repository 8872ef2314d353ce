"""A folder, zip or tar as one thing: names of files, and the bytes of each."""

import os
import stat
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from vitgan.data.names import natural_order
from vitgan.data.sources.archives import (
    COMPRESSIONS,
    DEEPEST,
    LARGEST_FILE_BYTES,
    TOO_DEEP,
    TOO_LARGE,
    Container,
    Tar,
    Wanted,
    Zip,
    is_hidden,
)
from vitgan.data.sources.source import UnreadableImage
from vitgan.errors import UserError
from vitgan.files import one_line, regular_size


def open_container(path: str | Path, wanted: Wanted, *, follow_links: bool = False) -> Container:
    """Opens a folder, zip or tar (also compressed) and lists the files that `wanted(name)` selects.

    Args:
        path: What to open.
        wanted: Decides by relative name. Hidden files and `__MACOSX` are left out beforehand.
        follow_links: Follow symbolic links of a folder to places outside it.

    Raises:
        UserError: There is nothing at `path`, or it is none of these.
    """
    path = Path(path)

    def chosen(name: str) -> bool:
        return not is_hidden(name) and wanted(name)

    try:
        if path.is_dir():
            return Folder(path, chosen, follow_links)
        if not path.exists():
            raise UserError(f"there is nothing at {path}: pass the folder or archive that holds the images")
        regular_size(path)
        with path.open("rb") as file:
            start = file.read(tarfile.BLOCKSIZE)
        if start.startswith(tuple(COMPRESSIONS)) or start[257:262] == b"ustar" or tarfile.is_tarfile(path):
            return Tar(path, chosen)
        if zipfile.is_zipfile(path):
            return Zip(path, chosen)
        if start.startswith(b"PK"):
            raise UserError(f"{path} is a zip without its index, as if it was cut off: fetch it again")
    except UserError:
        raise
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # zipfile and tarfile raise errors of many kinds over damaged archives
        raise UserError(f"{path} is damaged: {one_line(str(error))}: fetch it again") from error
    raise UserError(f"{path} is neither a folder nor a zip nor a tar: pass one of these")


class Folder(Container):
    """A folder, at any nesting; linked folders are entered only with `follow_links`, and never in a circle."""

    def __init__(self, path: Path, wanted: Wanted, follow_links: bool = False) -> None:
        super().__init__(path)
        self._root, self._follow_links = path.resolve(), follow_links
        self.names = sorted(filter(wanted, self._walk(path, "", frozenset([self._root]))), key=natural_order)
        self.refused = [(name, reason) for name, reason in self.refused if wanted(name) or reason.startswith("folder")]

    def files(self) -> Iterable[Path]:
        return (self.path / name for name in self.names)

    def read(self, index: int) -> bytes:
        file = self.path / self.names[index]
        try:
            if regular_size(file) > LARGEST_FILE_BYTES:
                raise UnreadableImage(TOO_LARGE)
            return file.read_bytes()
        except OSError as error:
            raise UnreadableImage(error.strerror or "cannot be read") from error

    def _walk(self, folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[str]:
        """Names of regular files."""
        if prefix.count("/") > DEEPEST:
            self.refused.append((prefix, f"folder: {TOO_DEEP}"))
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            self.refused.append((prefix or str(folder), f"folder cannot be read: {error.strerror}"))
            return
        for entry in entries:
            name = prefix + entry.name
            if entry.is_symlink():
                yield from self._follow(Path(entry.path), name, above)
            elif entry.is_dir():
                yield from self._walk(Path(entry.path), name + "/", above)
            elif entry.is_file():
                yield name

    def _follow(self, link: Path, name: str, above: frozenset[Path]) -> Iterator[str]:
        try:
            target = link.resolve(strict=True)
            kind = target.stat().st_mode
        except (OSError, RuntimeError):
            self.refused.append((name, "broken symbolic link"))
            return
        inside = target.is_relative_to(self._root)
        if not inside and not self._follow_links:
            what = "folder: " if stat.S_ISDIR(kind) else ""
            self.refused.append((name, f"{what}symbolic link leads out of the folder (follow_links allows it)"))
        elif stat.S_ISREG(kind):
            yield name
        elif stat.S_ISDIR(kind) and not inside and target not in above:
            yield from self._walk(link, name + "/", above | {target})
