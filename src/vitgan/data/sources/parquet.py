"""Tables of encoded images in Parquet files, as the Hugging Face Hub keeps CIFAR-10, CelebA, LSUN and most others."""

import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitgan.data.sources.container import natural_order
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.errors import UserError
from vitgan.files import regular_size, stamp

if TYPE_CHECKING:
    import pyarrow.parquet

SPLITS = {"train": "train", "test": "test", "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid"}
SPLIT_PATTERN = re.compile(r"(?:partial-)?(train|test|validation|valid|val|dev)(?![a-z])")


def holds_parquet(path: str | Path) -> bool:
    """Whether `path` is a Parquet file or a folder with some."""
    path = Path(path)
    return path.suffix == ".parquet" or (path.is_dir() and next(path.rglob("*.parquet"), None) is not None)


class ParquetImages(Source):
    """The rows of one or several Parquet files, in natural order of the files' names.

    Args:
        path: A file, or a folder with files at any depth.
        split: Only the files that belong to it by name ("train-00000-of-00002.parquet", "train/0000.parquet");
            "all" for every file. May be left out if the files do not name several splits.
        image_column: Column of encoded images (binary, or the Hub's struct of bytes and path); None to find it.
        label_column: Column of whole numbers; None for the one the Hub's metadata calls a class label, or named
            "label"; "none" for no labels.
        provenance: Which data set it is, if it is a known one.

    Raises:
        UserError: The package pyarrow is missing, or files, columns or splits are missing or damaged.
    """

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        provenance: Provenance | None = None,
    ) -> None:
        path = Path(path)
        self.origin = str(path)
        self.split = split
        self.provenance = provenance or Provenance("parquet")
        self._files = _choose_files(path, split)
        self._groups: list[tuple[Path, int]] = []
        rows = []
        for file in self._files:
            metadata = _open(file).metadata
            self._groups += [(file, group) for group in range(metadata.num_row_groups)]
            found = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            if min(found, default=0) < 0 or sum(found) != metadata.num_rows:
                raise UserError(f"{file} is damaged: {metadata.num_rows} rows, in groups of {found[:10]}: fetch it again")
            rows += found
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        # Written backwards, so that a file's first row group stays.
        self._file_starts = {
            file: int(start) for (file, _), start in zip(self._groups[::-1], self._starts[-2::-1], strict=True)
        }
        self._choose_columns(image_column, label_column)
        self.labelled = self._label_column is not None
        self._loaded: tuple[int, dict[str, list[Any]] | str] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": None}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Item:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        columns = self._load(group)
        row = index - int(self._starts[group])
        image = columns[self._image_column][row]
        image = image["bytes"] if isinstance(image, dict) else image
        if image is None:
            raise UnreadableImage("the table has no bytes for it")
        label = columns[self._label_column][row] if self._label_column else None
        if self._label_column and (label is None or not 0 <= label < len(self.label_names or range(1 << 31))):
            raise UnreadableImage(f"its label is {label}")
        return Item(self.item_name(index), image, label)

    def item_name(self, index: int) -> str:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        file = self._groups[group][0]
        return f"{file.name}:{index - self._file_starts[file]}"

    def fingerprint(self) -> str:
        parts = [(str(file), stamp(file)) for file in self._files]
        return hashlib.sha256(repr((parts, self._image_column, self._label_column)).encode()).hexdigest()

    def _load(self, group: int) -> dict[str, list[Any]]:
        """The columns of a row group; the last one is kept, as rows are asked for in order."""
        if self._loaded is None or self._loaded[0] != group:
            file, number = self._groups[group]
            wanted = [column for column in (self._image_column, self._label_column) if column]
            try:
                table = _open(file).read_row_group(number, columns=wanted, use_threads=False)
                content = {column: table.column(column).to_pylist() for column in wanted}
                if table.num_rows != self._starts[group + 1] - self._starts[group]:
                    content = f"row group {number} is damaged: it has {table.num_rows} rows"
            except Exception as error:  # damaged pages raise errors of many kinds
                content = f"row group {number} is damaged: {printable(str(error))[:100]}"
            self._loaded = (group, content)
        content = self._loaded[1]
        if isinstance(content, str):
            raise UnreadableImage(content)
        return content

    def _choose_columns(self, image_column: str | None, label_column: str | None) -> None:
        import pyarrow.types as types

        schema = _open(self._files[0]).schema_arrow
        features = _hub_features(schema.metadata)

        def holds_images(field: Any) -> bool:
            kind = field.type
            if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
                kind = kind.field("bytes").type
            return types.is_binary(kind) or types.is_large_binary(kind)

        images = [field.name for field in schema if holds_images(field)]
        numbers = [field.name for field in schema if types.is_integer(field.type)]
        if (image_column and image_column not in images) or not images:
            raise UserError(f"{self._files[0]} has no column {image_column or ''} of images: it has {schema.names}")
        if len(images) > 1 and not image_column:
            raise UserError(f"{self._files[0]} has several columns of images, {images}: choose with --image-column")
        classes = [name for name in numbers if features.get(name, {}).get("_type") == "ClassLabel"]
        found = (classes or [name for name in numbers if name == "label"] or [None])[0]
        if label_column not in (None, "none") and label_column not in numbers:
            raise UserError(f"{self._files[0]} has no column {label_column} of whole numbers: it has {schema.names}")
        self._image_column = image_column or images[0]
        self._label_column = None if label_column == "none" else label_column or found
        names = features.get(self._label_column or "", {}).get("names")
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        self.label_names = [printable(name) for name in names] if listed else None


def _open(file: Path) -> "pyarrow.parquet.ParquetFile":
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("reading Parquet needs the package pyarrow: pip install 'vitgan[parquet]'") from error
    try:
        regular_size(file)
        opened = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        _ = opened.schema_arrow  # which is decoded only now
        return opened
    except Exception as error:  # damaged files raise errors of many kinds
        raise UserError(f"{file} is not a sound Parquet file: {printable(str(error))[:100]}: fetch it again") from error


def _choose_files(path: Path, split: str | None) -> list[Path]:
    if not path.exists():
        raise UserError(f"there is nothing at {path}: pass a Parquet file, or a folder with some")
    found = [path] if path.is_file() else list(path.rglob("*.parquet"))
    files = sorted(found, key=lambda file: natural_order(file.relative_to(path.parent).as_posix()))
    if not files:
        raise UserError(f"{path} holds no .parquet file")
    splits = {file: _split_of(file, path) for file in files}
    named = sorted({name for name in splits.values() if name})
    if split is None and len(named) > 1:
        raise UserError(f"{path} holds the splits {', '.join(named)}: choose one with --split, or --split all")
    if split in (None, "all"):
        return files
    chosen = [file for file in files if splits[file] == SPLITS.get(split, split)]
    if not chosen and path.is_file() and not named:
        return files  # one file whose name says nothing
    if not chosen:
        raise UserError(f"{path} holds no files of the split {split}: it has {', '.join(named) or 'no splits by name'}")
    return chosen


def _split_of(file: Path, root: Path) -> str | None:
    """The split that a file's name, else a folder between it and `root`, stands for."""
    parts = file.relative_to(root.parent if root.is_file() else root).with_suffix("").parts
    for part in reversed(parts):
        match = SPLIT_PATTERN.match(part.lower())
        if match:
            return SPLITS[match[1]]
    return None


def _hub_features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What the Hub's writer says about the columns; empty where it says nothing."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: kind for name, kind in features if isinstance(kind, dict)}
