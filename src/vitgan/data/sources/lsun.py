"""LSUN: millions of scenes and objects, each category an LMDB of encoded images."""

from collections.abc import Iterable
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from vitgan.data.names import listed
from vitgan.data.sources.source import Provenance, Source, UnreadableImage
from vitgan.data.workers import run_isolated
from vitgan.errors import UserError, one_line
from vitgan.files import user_error

if TYPE_CHECKING:
    import lmdb

Split = Literal["train", "val"]
KEYS_PER_ANCHOR = 256


class Lsun(Source):
    """One category in the official format: a folder such as `bedroom_train_lmdb`, unzipped.

    The order is that of the keys. LMDB trusts its files and aborts the process over some kinds of damage, so it is read
    in other processes, and scripts need the usual `if __name__ == "__main__":`.

    Args:
        path: The LMDB's folder (or its data.mdb), or a folder that holds several of them.
        category: Which of several, e.g. "bedroom".
        split: Which of several; None for train.

    Raises:
        UserError: The package lmdb is missing, or there is no such database, or it is damaged.
    """

    provenance = Provenance(
        "lsun",
        licence="none stated; for research (Yu et al., LSUN, arXiv 1506.03365)",
        url="https://www.yf.io/p/lsun",
        resolution=64,
    )
    isolated = True
    labels_from = "none: the images are of one category"

    def __init__(self, path: str | Path, category: str = "bedroom", split: Split | None = None) -> None:
        self.origin = str(path)
        self._data = _find_database(Path(path), category, split or "train")
        folder = self._data.absolute().parent.name
        self.split = next((part for part in get_args(Split) if f"_{part}" in folder), None)
        self.split_from = f"the folder {one_line(folder)}"
        if split and self.split not in (None, split):
            raise UserError(f"{path} holds the split {self.split}, not {split}: pass another folder", "split")
        with user_error(f"{self._data} is damaged", BrokenProcessPool, advice="fetch it again"):
            self._count, self._anchors, damage = run_isolated(_list_keys, self._data)
        if not self._count:
            raise UserError(f"{path} holds no images{damage and f': {damage}'}")
        self.refused = [(self._data.name, damage)] if damage else []

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """The position: the key would have to be read."""
        return f"image {index}"

    def read(self, index: int) -> bytes:
        import lmdb

        try:
            with _open_database(self._data.resolve()).begin() as transaction, transaction.cursor() as cursor:
                found = cursor.set_key(self._anchors[index // KEYS_PER_ANCHOR])
                for _ in range(index % KEYS_PER_ANCHOR):
                    found = found and cursor.next()
                if not found:
                    raise UnreadableImage("the database changed while it was read")
                return bytes(cursor.value())
        except lmdb.Error as error:
            raise UnreadableImage(f"the database is damaged: {error}") from error

    def files(self) -> Iterable[Path]:
        return [self._data]


def _list_keys(data: Path) -> tuple[int, list[bytes], str]:
    """The number of keys, every 256th of them (all three million would fill the workers' memory), and what is damaged.

    LMDB has no checksums: that no page is lost shows in the order of the keys and in the number that is written down.

    Raises:
        UserError: The database cannot be read through.
    """
    import lmdb

    count, anchors, damage, last = 0, [], "", b""
    with user_error(f"{data} is damaged", lmdb.Error, advice="fetch it again"):
        environment = _open_database(data)
        announced = environment.stat()["entries"]
        with environment.begin() as transaction, transaction.cursor() as cursor:
            for key in map(bytes, cursor.iternext(keys=True, values=False)):
                if key <= last and count:
                    damage = "the database is damaged: its keys are not in order"
                if count % KEYS_PER_ANCHOR == 0:
                    anchors.append(key)
                count, last = count + 1, key
    with data.open("rb") as file:
        file.seek(_used_bytes(environment))
        behind = file.read(environment.stat()["psize"])
    if count != announced:
        damage = f"the database is damaged: it announces {announced:,} images and has {count:,}"
    elif not damage and behind.strip(b"\0"):  # then the page of the newest state is damaged
        damage = "the database is damaged: an older state of it is read"
    return count, anchors, damage


def _used_bytes(environment: "lmdb.Environment") -> int:
    return (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]


def _find_database(path: Path, category: str, split: str) -> Path:
    """The file data.mdb."""
    for file in (path, path / "data.mdb"):
        if file.suffix == ".mdb" and file.is_file():
            return file
    if path.suffix == ".zip":
        raise UserError(f"an LMDB cannot be read inside a zip: unzip {path} and pass the folder")
    if not path.is_dir():
        raise UserError(f"there is nothing at {path}: pass an unzipped folder such as bedroom_train_lmdb")
    found = [child.name for child in path.iterdir() if (child / "data.mdb").is_file()]
    wanted = f"{category}_{split}_lmdb"
    if wanted not in found:
        there = listed(found) or "no LMDB"
        raise UserError(f"{path} has no {wanted}: it has {there}; choose category and split", "category")
    return path / wanted / "data.mdb"


@lru_cache(maxsize=8)  # LMDB allows a process to open a database once; sources of the same one share it
def _open_database(data: Path) -> "lmdb.Environment":
    with user_error("reading LSUN needs the package lmdb", ImportError, advice="pip install 'vitgan[lsun]'"):
        import lmdb
    options: dict[str, Any] = {"lock": False, "readahead": False, "create": False, "max_spare_txns": 1}
    with user_error(f"{data} is not a sound LMDB", lmdb.Error, OSError, advice="fetch it again"):
        environment = lmdb.open(str(data), subdir=False, readonly=True, **options)
        needed, there = _used_bytes(environment), data.stat().st_size
        if there < needed:
            raise UserError(f"{data} is cut off: {there:,} of at least {needed:,} bytes: fetch it again")
    return environment
