"""Files inside a folder, a zip or a tar: their names, and the bytes of each.

Nothing is ever unpacked to disk under a name from an archive.
"""

import bz2
import gzip
import lzma
import os
import re
import stat
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from vitgan.data.sources.source import UnreadableImage, printable
from vitgan.errors import UserError

LARGEST_FILE_BYTES = 1 << 30
LOCAL_HEADER_BYTES = 30
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
        hidden = any(part.startswith(".") and part != ".." for part in name.split("/"))
        return not hidden and "__MACOSX" not in name and wanted(name)

    try:
        if path.is_dir():
            return Folder(path, chosen, follow_links)
        if not path.exists():
            raise UserError(f"there is nothing at {path}: pass the folder or archive that holds the images")
        if zipfile.is_zipfile(path):
            return Zip(path, chosen)
        if _decompress(path) or tarfile.is_tarfile(path):
            return Tar(path, chosen)
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

    def read(self, index: int) -> bytes:
        file = self.path / self.names[index]
        try:
            if file.stat().st_size > LARGEST_FILE_BYTES:
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
    """A file that holds files; members are read by offset, so that reading one does not need the whole index."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.refused = []
        self._file: BinaryIO | None = None

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None}

    def _read_at(self, offset: int, size: int) -> bytes:
        try:
            if self._file is None:
                self._file = self._open()
            self._file.seek(offset)
            data = self._file.read(size)
        except (OSError, ValueError, OverflowError) as error:
            raise UnreadableImage("the archive cannot be read there") from error
        if len(data) != size:
            raise UnreadableImage("the archive ends before the file does")
        return data

    def _open(self) -> BinaryIO:
        return self.path.open("rb")


class Zip(Archive):
    """A zip, stored or deflated."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        super().__init__(path)
        with zipfile.ZipFile(path) as archive:
            listed = [
                entry for entry in archive.infolist() if not entry.filename.endswith("/") and wanted(entry.filename)
            ]
        members = []
        for entry in listed:
            reason = self._unreadable(entry)
            if reason:
                self.refused.append((entry.filename, reason))
            else:
                members.append(entry)
        members.sort(key=lambda entry: natural_order(entry.filename))
        self.names = [entry.filename for entry in members]
        self._members = [
            (entry.header_offset, entry.compress_size, entry.file_size, entry.compress_type, entry.CRC)
            for entry in members
        ]

    def read(self, index: int) -> bytes:
        offset, compressed_size, size, method, checksum = self._members[index]
        header = self._read_at(offset, LOCAL_HEADER_BYTES)
        if header[:4] != b"PK\x03\x04":
            raise UnreadableImage("the zip's entry is damaged")
        # The local header's name and extra field may be longer than the index's.
        skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        data = self._read_at(offset + LOCAL_HEADER_BYTES + skip, compressed_size)
        if method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
            except zlib.error as error:
                raise UnreadableImage("the zip's entry is damaged") from error
        if len(data) != size or zlib.crc32(data) != checksum:
            raise UnreadableImage("the zip's entry is damaged (CRC differs)")
        return data

    @staticmethod
    def _unreadable(entry: zipfile.ZipInfo) -> str | None:
        if leads_out(entry.filename):
            return "its name leads out of the archive"
        if stat.S_ISLNK(entry.external_attr >> 16):
            return "symbolic link"
        if entry.flag_bits & 1:
            return "encrypted"
        if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            return "compressed by a method other than deflate"
        return f"larger than {LARGEST_FILE_BYTES >> 20} MiB" if entry.file_size > LARGEST_FILE_BYTES else None


class Tar(Archive):
    """A tar; a compressed one is decompressed once to a temporary file, since it cannot be read from the middle."""

    def __init__(self, path: Path, wanted: Callable[[str], bool]) -> None:
        super().__init__(path)
        self._plain = path
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        compressed = _decompress(path)
        if compressed:
            self._temporary = tempfile.TemporaryDirectory(prefix="vitgan-")
            self._plain = Path(self._temporary.name) / "plain.tar"
            with compressed, self._plain.open("wb") as plain:
                self._copy(compressed, plain)
        members: list[tarfile.TarInfo] = []
        try:
            with tarfile.open(self._plain, "r:") as archive:
                for member in archive:
                    self._admit(member, members, wanted)
        except (tarfile.TarError, ValueError, OverflowError) as error:
            self.refused.append(
                (path.name, f"the archive is damaged behind {len(members)} files: {printable(str(error))}")
            )
        members.sort(key=lambda member: natural_order(_tidy(member.name)))
        self.names = [_tidy(member.name) for member in members]
        self._members = [(member.offset_data, member.size) for member in members]

    def __getstate__(self) -> dict:
        return super().__getstate__() | {"_temporary": None}

    def read(self, index: int) -> bytes:
        return self._read_at(*self._members[index])

    def _open(self) -> BinaryIO:
        return self._plain.open("rb")

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
        if member.isdir() or not wanted(name):
            return
        if leads_out(name):
            self.refused.append((name, "its name leads out of the archive"))
        elif not member.isreg() or member.issparse():
            self.refused.append((name, "a link or special file"))
        elif member.size > LARGEST_FILE_BYTES:
            self.refused.append((name, f"larger than {LARGEST_FILE_BYTES >> 20} MiB"))
        else:
            members.append(member)


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


def leads_out(name: str) -> bool:
    """Whether unpacking a member under this name would write outside the folder."""
    path = PurePosixPath(name.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or bool(re.match(r"[A-Za-z]:", name))
