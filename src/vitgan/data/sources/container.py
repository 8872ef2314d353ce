"""Files inside a folder, a zip or a tar: their names, and the bytes of each.

Nothing is ever unpacked to disk under a name from an archive.
"""

import bz2
import gzip
import io
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np
from PIL import Image

from vitgan.data.decode import FORMATS
from vitgan.data.sources.source import UnreadableImage, printable
from vitgan.errors import UserError
from vitgan.files import regular_size

LARGEST_FILE_BYTES = 1 << 30
SNIFFED_BYTES = 1 << 16
END_BYTES = 2 * tarfile.BLOCKSIZE  # of zeros, at a tar's end
COPY_BYTES = 1 << 20

Compressed = gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Sorting key under which "image2" comes before "image10"; the folders of a path are compared one by one."""
    parts: list[str | int] = []
    for folder in name.split("/"):
        pieces = re.split(r"(\d+)", folder, flags=re.ASCII)
        parts += [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)] + [-1]
    return parts, name


class Container(ABC):
    """Read-only access to files by position. Picklable: every process opens its own handle.

    Attributes:
        path: The folder or archive.
        names: Relative names with "/" of the wanted files, in natural order.
        refused: (name, reason) of wanted files that it is unsafe or impossible to read.
    """

    path: Path
    names: list[str]
    refused: list[tuple[str, str]]

    @abstractmethod
    def files(self) -> Iterable[Path]:
        """The files on the disk that this reads."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The content of the file `names[index]`.

        Raises:
            UnreadableImage: It is gone, damaged or too large.
        """

    def read_named(self, name: str) -> bytes:
        """The content of the file `name`; raises KeyError if it is not among `names`."""
        try:
            return self.read(self.names.index(name))
        except ValueError as error:
            raise KeyError(name) from error


def open_container(path: str | Path, wanted: Callable[[str], bool], *, follow_links: bool = False) -> Container:
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
        if _decompress(path) or start[257:262] == b"ustar" or tarfile.is_tarfile(path):
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
        raise UserError(f"{path} is damaged: {printable(str(error))}: fetch it again") from error
    raise UserError(f"{path} is neither a folder nor a zip nor a tar: pass one of these")


class Folder(Container):
    """A folder, at any nesting."""

    def __init__(self, path: Path, wanted: Callable[[str], bool], follow_links: bool = False) -> None:
        self.path = path
        self.refused = []
        self._root = path.resolve()
        self._follow_links = follow_links
        names = [name for name in self._walk(path, "", frozenset([self._root])) if wanted(name)]
        self.refused = [(name, reason) for name, reason in self.refused if wanted(name) or reason.startswith("folder")]
        self.names = sorted(names, key=natural_order)

    def files(self) -> Iterable[Path]:
        return (self.path / name for name in self.names)

    def read(self, index: int) -> bytes:
        file = self.path / self.names[index]
        try:
            if regular_size(file) > LARGEST_FILE_BYTES:
                raise UnreadableImage(f"larger than {LARGEST_FILE_BYTES >> 20} MiB")
            return file.read_bytes()
        except OSError as error:
            raise UnreadableImage(error.strerror or "cannot be read") from error

    def _walk(self, folder: Path, prefix: str, above: frozenset[Path]) -> Iterator[str]:
        """Names of regular files; linked folders are entered only with `follow_links`, and never in a circle."""
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
            self.refused.append((name, f"{what}symbolic link leads out of the folder (--follow-links allows it)"))
        elif stat.S_ISREG(kind):
            yield name
        elif stat.S_ISDIR(kind) and not inside and target not in above:
            yield from self._walk(link, name + "/", above | {target})


class Archive(Container):
    """A file that holds files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = []

    def files(self) -> Iterable[Path]:
        return [self.path]

    def _why_unreadable(self, name: str, size: int) -> str | None:
        if leads_out(name):
            return "its name leads out of the archive"
        return f"larger than {LARGEST_FILE_BYTES >> 20} MiB" if size > LARGEST_FILE_BYTES else None


class Zip(Archive):
    """A zip, stored or deflated."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        super().__init__(path)
        self._opened: tuple[zipfile.ZipFile, list[zipfile.ZipInfo]] | None = None
        archive, entries = self._open()
        announced = zipfile._EndRecData(archive.fp)[zipfile._ECD_ENTRIES_TOTAL]  # pyright: ignore
        # Without zip64, some writers count modulo 65,536.
        if (announced - len(entries)) % (1 << 16):
            self.refused.append((path.name, f"damaged: its index announces {announced} entries and has {len(entries)}"))
        chosen = []
        for position, entry in enumerate(entries):
            if not entry.is_dir() and wanted(entry.filename):
                reason = self._why_unreadable(entry.filename, entry.file_size) or _why_not_plain(entry)
                if reason:
                    self.refused.append((entry.filename, reason))
                else:
                    chosen.append(position)
            elif self._is_renamed(archive, entry):
                self.refused.append((entry.filename, "damaged: the index has another name for it than the entry"))
        chosen.sort(key=lambda position: natural_order(entries[position].filename))
        self.names = [entries[position].filename for position in chosen]
        self._chosen = np.array(chosen, np.int64)

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_opened": None}

    def read(self, index: int) -> bytes:
        try:
            archive, entries = self._opened or self._open()
            entry = entries[self._chosen[index]]
            with archive.open(entry) as file:  # which compares the name with the index's, and the CRC
                data = file.read(entry.file_size)
        except Exception as error:  # zipfile raises errors of many kinds over damaged entries
            raise UnreadableImage(f"the zip's entry is damaged: {printable(str(error))}") from error
        if entry.filename != self.names[index] or len(data) != entry.file_size:
            raise UnreadableImage("the zip's entry is damaged")
        return data

    def _open(self) -> tuple[zipfile.ZipFile, list[zipfile.ZipInfo]]:
        archive = zipfile.ZipFile(self.path)
        self._opened = (archive, archive.infolist())
        return self._opened

    @staticmethod
    def _is_renamed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
        """Whether an entry that its name in the index leaves out may be wanted by its own."""
        try:
            archive.open(entry).close()
        except (NotImplementedError, RuntimeError):  # of a kind that cannot be read, but for what it is
            return False
        except Exception:  # zipfile raises errors of many kinds over damaged entries
            return True
        return False


class Tar(Archive):
    """A tar; a compressed one is decompressed once to a temporary file, since it cannot be read from the middle."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        super().__init__(path)
        self._file: BinaryIO | None = None
        self._plain = path
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        compressed = _decompress(path)
        if compressed:
            self._temporary = tempfile.TemporaryDirectory(prefix="vitgan-")
            self._plain = Path(self._temporary.name) / "plain.tar"
            with compressed, self._plain.open("wb") as plain:
                self._copy(compressed, plain)
        members: list[tarfile.TarInfo] = []
        for member in self._list_members():
            self._admit(member, members, wanted)
        members.sort(key=lambda member: natural_order(_tidy(member.name)))
        self.names = [_tidy(member.name) for member in members]
        self._members = [(member.offset_data, member.size) for member in members]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None, "_temporary": None}

    def read(self, index: int) -> bytes:
        offset, size = self._members[index]
        try:
            if self._file is None:
                self._file = self._plain.open("rb")
            self._file.seek(offset)
            data = self._file.read(size)
        except (OSError, ValueError, OverflowError) as error:
            raise UnreadableImage("the archive cannot be read there") from error
        if len(data) != size:
            raise UnreadableImage("the archive ends before the file does")
        return data

    def _list_members(self) -> Iterator[tarfile.TarInfo]:
        """All members that can be found. Bytes that belong to none, or a missing end, are noted as damage."""
        size, end, last = self._plain.stat().st_size, 0, "its start"
        try:
            # tarfile takes a damaged header for the archive's end, unless it is told to look for the next one.
            with tarfile.open(self._plain, "r:", ignore_zeros=True, tarinfo=_Member) as archive:
                while end < size:
                    try:
                        member = archive.next()
                    except tarfile.ReadError:  # a long name, and behind it no header
                        archive.offset += tarfile.BLOCKSIZE  # pyright: ignore[reportAttributeAccessIssue]
                        if archive.offset < size:  # pyright: ignore[reportAttributeAccessIssue]
                            continue
                        break
                    if member is None:
                        break
                    if member.start != end:  # pyright: ignore[reportAttributeAccessIssue]
                        self.refused.append((self.path.name, f"damaged behind {last}: no header there"))
                    if archive.offset <= end:  # pyright: ignore[reportAttributeAccessIssue]
                        raise ValueError("a member of negative size")
                    end, last = archive.offset, printable(member.name)  # pyright: ignore[reportAttributeAccessIssue]
                    yield member
        except Exception as error:  # tarfile raises errors of many kinds over damaged headers
            self.refused.append((self.path.name, f"damaged behind {last}: {printable(str(error))}"))
            return
        with self._plain.open("rb") as file:
            file.seek(end)
            rest = iter(lambda: file.read(COPY_BYTES), b"")
            sound = all(block.count(0) == len(block) for block in rest) and file.tell() >= end + END_BYTES
        if not sound:
            self.refused.append((self.path.name, f"cut off or damaged behind {last}: no end of the archive there"))

    def _copy(self, compressed: Compressed, plain: BinaryIO) -> None:
        """Decompresses as far as the data is sound."""
        while True:
            try:
                block = compressed.read1(COPY_BYTES)  # `read` would drop what precedes the fault
            except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
                place = f"the compressed archive is damaged behind {plain.tell()} bytes"
                self.refused.append((self.path.name, f"{place}: {printable(str(error))}"))
                return
            if not block:
                return
            plain.write(block)

    def _admit(self, member: tarfile.TarInfo, members: list[tarfile.TarInfo], wanted: Callable[[str], bool]) -> None:
        name = _tidy(member.name)
        if member.isdir():
            return
        if not wanted(name):
            # No checksum protects a name in an extended header: damage to it must not leave an image out.
            extended = member.offset_data - member.offset > tarfile.BLOCKSIZE
            if extended and member.isreg() and not is_hidden(name) and self._holds_image(member):
                self.refused.append((name, "an image by its content, but not by its name"))
            return
        reason = self._why_unreadable(name, member.size)
        if reason is None and (not member.isreg() or member.issparse()):
            reason = "a link or special file"
        if reason:
            self.refused.append((name, reason))
        else:
            members.append(member)

    def _holds_image(self, member: tarfile.TarInfo) -> bool:
        with self._plain.open("rb") as file:
            file.seek(member.offset_data)
            start = file.read(min(member.size, SNIFFED_BYTES))
        try:
            Image.open(io.BytesIO(start), formats=FORMATS).close()
        except Exception:  # Pillow raises errors of many kinds over damaged images
            return False
        return True


class _Member(tarfile.TarInfo):
    """Knows where its headers begin, global ones before it included."""

    start = 0

    @classmethod
    def fromtarfile(cls, tarfile: tarfile.TarFile) -> "_Member":
        start = tarfile.offset  # pyright: ignore[reportAttributeAccessIssue]
        member = super().fromtarfile(tarfile)
        member.start = start
        return member


def _why_not_plain(entry: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "symbolic link"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by a method other than deflate"
    return None


def _decompress(path: Path) -> Compressed | None:
    """Opens a compressed tar; None if it is not compressed."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(path)
    if start.startswith(b"BZh"):
        return bz2.BZ2File(path)
    return lzma.LZMAFile(path) if start.startswith(b"\xfd7zXZ\x00") else None


def _tidy(name: str) -> str:
    """ "./a/b" is what `tar` writes for "a/b"."""
    return name.removeprefix("./")


def is_hidden(name: str) -> bool:
    """Whether a file or a folder above it is hidden, or what macOS puts into zips."""
    return "__MACOSX" in name or any(part.startswith(".") and part != ".." for part in name.split("/"))


def leads_out(name: str) -> bool:
    """Whether unpacking a member under this name would write outside the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(re.match(r"[A-Za-z]:", name))
