"""A folder, zip or tar as one thing: names of files, and the bytes of each. Damage costs little, and is listed.

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
from typing import Any, BinaryIO

from PIL import Image

from vitgan.data.decode import FORMATS
from vitgan.data.names import natural_order
from vitgan.data.sources.source import UnreadableImage
from vitgan.errors import UserError, one_line
from vitgan.files import regular_size, user_error

LARGEST_FILE_BYTES = 1 << 30
DEEPEST = 100
"""Folders inside each other that are followed: more is damage or an attack, and would exhaust Python's stack."""
TOO_DEEP = f"more than {DEEPEST} folders inside each other"
TOO_LARGE = f"larger than {LARGEST_FILE_BYTES >> 20} MiB"
SNIFFED_BYTES = 1 << 16
TAR_END_BYTES = 2 * tarfile.BLOCKSIZE  # of zeros
COPY_BYTES = 1 << 20

OURS = ({"config.json", "data.json", ".lock"}, {"dataset.json", "images.npy"})
"""Files of a run and of a store: where people train inside their folder of images, sample grids are none of these."""

Wanted = Callable[[str], bool]
Opener = type[gzip.GzipFile] | type[bz2.BZ2File] | type[lzma.LZMAFile]
COMPRESSIONS: dict[bytes, Opener] = {b"\x1f\x8b": gzip.GzipFile, b"BZh": bz2.BZ2File, b"\xfd7zXZ\x00": lzma.LZMAFile}


class Container(ABC):
    """Read-only access to files by position. Picklable: every process opens its own handle.

    Attributes:
        path: The folder or archive.
        names: Relative names with "/" of the wanted files, in natural order.
        refused: (name, reason) of wanted files that it is unsafe or impossible to read, and of damage.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: list[str] = []
        self.refused: list[tuple[str, str]] = []

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The content of the file `names[index]`.

        Raises:
            UnreadableImage: It is gone, damaged or too large.
        """

    def read_named(self, name: str) -> bytes:
        """The content of the file `name`; raises as `read` does, also if it is not among `names`."""
        if name not in self.names:
            raise UnreadableImage("there is no such file")
        return self.read(self.names.index(name))

    def files(self) -> Iterable[Path]:
        """The files on the disk that this reads."""
        return [self.path]


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
        return not _is_hidden(name) and wanted(name)

    # zipfile and tarfile raise errors of many kinds over damaged archives.
    with user_error(f"cannot read {path}", Exception, advice="make it readable, or fetch it again"):
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
        if any(files <= {entry.name for entry in entries} for files in OURS):
            self.refused.append((prefix or str(folder), "folder: a run or store of vitgan's"))
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
            allowed = "`vitgan data folder --follow-links` follows it"
            self.refused.append((name, f"{what}symbolic link leads out of the folder ({allowed})"))
        elif stat.S_ISREG(kind):
            yield name
        elif stat.S_ISDIR(kind) and not inside and target not in above:
            yield from self._walk(link, name + "/", above | {target})


class Zip(Container):
    """A zip, stored or deflated."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        self._archive: zipfile.ZipFile | None = None
        archive = self._open()
        entries = archive.infolist()
        announced = zipfile._EndRecData(archive.fp)[zipfile._ECD_ENTRIES_TOTAL]  # pyright: ignore
        if (announced - len(entries)) % (1 << 16):  # without zip64, some writers count modulo 65,536
            self.refused.append((path.name, f"damaged: its index announces {announced} entries and has {len(entries)}"))
        chosen: list[int] = []
        for number, entry in enumerate(entries):
            chooses = not entry.is_dir() and wanted(entry.filename)
            if reason := _why_unreadable(entry) if chooses else _why_lost(archive, entry):
                self.refused.append((entry.filename, reason))
            elif chooses:
                chosen.append(number)
        self._chosen = sorted(chosen, key=lambda number: natural_order(entries[number].filename))
        self.names = [entries[number].filename for number in self._chosen]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_archive": None}

    def read(self, index: int) -> bytes:
        try:
            archive = self._open()
            entry = archive.filelist[self._chosen[index]]
            with archive.open(entry) as file:  # which compares the name with the index's, and the CRC
                data = file.read(entry.file_size)
        except Exception as error:  # zipfile raises errors of many kinds over damaged entries
            raise UnreadableImage(f"the zip's entry is damaged: {one_line(str(error))}") from error
        if entry.filename != self.names[index] or len(data) != entry.file_size:
            raise UnreadableImage("the zip's entry is damaged")
        return data

    def _open(self) -> zipfile.ZipFile:
        if self._archive is None:
            self._archive = zipfile.ZipFile(self.path)
            _translate_names(self._archive.filelist)
        return self._archive


def _translate_names(entries: list[zipfile.ZipInfo]) -> None:
    """Backslashes between folders, as older tools for Windows write them, become "/"; `orig_filename` stays."""
    if not any("/" in entry.filename for entry in entries):
        for entry in entries:
            entry.filename = entry.filename.replace("\\", "/")


def _why_unreadable(entry: zipfile.ZipInfo) -> str | None:
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "symbolic link"
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by a method other than deflate"
    return _why_refused(entry.filename, entry.file_size)


def _why_lost(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> str | None:
    """Whether an entry that its name in the index leaves out may be wanted by its own."""
    try:
        archive.open(entry).close()
    except (NotImplementedError, RuntimeError):  # of a kind that cannot be read, but for what it is
        return None
    except Exception:  # zipfile raises errors of many kinds over damaged entries
        return "damaged: the index has another name for it than the entry"
    return None


class Tar(Container):
    """A tar; a compressed one is decompressed once to a temporary file, since it cannot be read from the middle."""

    def __init__(self, path: Path, wanted: Wanted) -> None:
        super().__init__(path)
        self._file: BinaryIO | None = None
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._plain = path
        with path.open("rb") as file:
            start = file.read(6)
        for mark, opener in COMPRESSIONS.items():
            if start.startswith(mark):
                self._decompress(opener)
        members = [member for member in self._list_members() if self._admits(member, wanted)]
        members.sort(key=lambda member: natural_order(_tidy(member.name)))
        self.names = [_tidy(member.name) for member in members]
        self._places = [(member.offset_data, member.size) for member in members]

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_file": None, "_temporary": None}

    def read(self, index: int) -> bytes:
        offset, size = self._places[index]
        try:
            self._file = self._file or self._plain.open("rb")
            self._file.seek(offset)
            data = self._file.read(size)
        except (OSError, ValueError, OverflowError) as error:
            raise UnreadableImage("the archive cannot be read there") from error
        if len(data) != size:
            raise UnreadableImage("the archive ends before the file does")
        return data

    def _decompress(self, opener: Opener) -> None:
        """As far as the data is sound; a temporary file that cannot be written is no damage of the archive."""
        self._temporary = tempfile.TemporaryDirectory(prefix="vitgan-")
        self._plain = Path(self._temporary.name) / "plain.tar"
        done = 0
        try:
            with self._plain.open("wb") as plain, opener(self.path) as compressed:
                while block := compressed.read1(COPY_BYTES):  # `read` would drop what precedes the fault
                    done += plain.write(block)
        except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
            if isinstance(error, OSError) and error.errno:  # of a disk: those of damage have no number
                self._temporary.cleanup()
                what = f"cannot decompress {self.path} to a temporary file: {error.strerror}"
                raise UserError(f"{what}: set TMPDIR to a larger disk, or unpack it and pass the folder") from error
            place = f"the compressed archive is damaged behind {done} bytes"
            self.refused.append((self.path.name, f"{place}: {one_line(str(error))}"))

    def _list_members(self) -> Iterator[tarfile.TarInfo]:
        """All members that can be found. Bytes that belong to none, or a missing end, are noted as damage."""
        size, end, last = self._plain.stat().st_size, 0, "its start"
        try:
            # tarfile takes a damaged header for the archive's end, unless it is told to look for the next one.
            with tarfile.open(self._plain, "r:", ignore_zeros=True, tarinfo=_Member) as opened:
                archive: Any = opened  # tarfile's stubs lack `offset`, of the next header
                while end < size:
                    try:
                        member = archive.next()
                    except tarfile.ReadError:  # a long name, and behind it no header
                        archive.offset += tarfile.BLOCKSIZE
                        if archive.offset < size:
                            continue
                        break
                    if not isinstance(member, _Member):
                        break
                    if member.start != end:
                        self.refused.append((self.path.name, f"damaged behind {last}: no header there"))
                    if archive.offset <= end:
                        raise ValueError("a member of negative size")
                    end, last = archive.offset, one_line(member.name)
                    yield member
        except Exception as error:  # tarfile raises errors of many kinds over damaged headers
            self.refused.append((self.path.name, f"damaged behind {last}: {one_line(str(error))}"))
            return
        if not self._ends_at(end):
            self.refused.append((self.path.name, f"cut off or damaged behind {last}: no end of the archive there"))

    def _ends_at(self, end: int) -> bool:
        """Whether nothing but zeros follows, and enough of them."""
        with self._plain.open("rb") as file:
            file.seek(end)
            rest = iter(lambda: file.read(COPY_BYTES), b"")
            return all(block.count(0) == len(block) for block in rest) and file.tell() >= end + TAR_END_BYTES

    def _admits(self, member: tarfile.TarInfo, wanted: Wanted) -> bool:
        name = _tidy(member.name)
        if member.isdir():
            return False
        if not wanted(name):
            # No checksum protects a name in an extended header: damage to it must not leave an image out.
            extended = member.offset_data - member.offset > tarfile.BLOCKSIZE
            if extended and member.isreg() and not _is_hidden(name) and self._holds_image(member):
                self.refused.append((name, "an image by its content, but not by its name"))
            return False
        reason = _why_refused(name, member.size)
        if reason is None and (not member.isreg() or member.issparse()):
            reason = "a link or special file"
        if reason:
            self.refused.append((name, reason))
        return reason is None

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


def _tidy(name: str) -> str:
    """ "./a/b" is what `tar` writes for "a/b"."""
    return name.removeprefix("./")


def _why_refused(name: str, size: int) -> str | None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or re.match(r"[A-Za-z]:", name):
        return "its name leads out of the archive"
    if name.count("/") > DEEPEST:
        return TOO_DEEP
    return TOO_LARGE if size > LARGEST_FILE_BYTES else None


def _is_hidden(name: str) -> bool:
    """Whether a file or a folder above it is hidden, or what macOS puts into zips."""
    return "__MACOSX" in name or any(part.startswith(".") and part != ".." for part in name.split("/"))
