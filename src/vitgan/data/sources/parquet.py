"""Tables of encoded images in Parquet files, as the Hugging Face Hub keeps CIFAR-10, CelebA, LSUN and most others."""

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitgan.data.labels import NO_LABEL, labels_of_values
from vitgan.data.sources.container import natural_order
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.data.splits import choose_part, split_of
from vitgan.errors import UserError
from vitgan.files import regular_size, stamp

if TYPE_CHECKING:
    import pyarrow.parquet

LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "class_id", "category", "target")
LABEL_ADVICE = "choose one with --label-column, or --label-column none"
SHARD = re.compile(r"(.+?)-\d{5}-of-\d{5}(-[0-9a-f]+)?")


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
        label_column: Column of labels (whole numbers, words, booleans, one-hot lists); None for the one that the Hub's
            metadata calls a class label, or that is named so; "none" for no labels.
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
        self.provenance = provenance or Provenance("parquet")
        every = _find_files(path)
        self._files, self.split, self.split_from = _choose_files(path, every, split)
        self._groups: list[tuple[Path, int]] = []
        rows = []
        for file in self._files:
            metadata = _open(file).metadata
            self._groups += [(file, group) for group in range(metadata.num_row_groups)]
            found = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
            if min(found, default=0) < 0 or sum(found) != metadata.num_rows:
                raise UserError(
                    f"{file} is damaged: {metadata.num_rows} rows, in groups of {found[:10]}: fetch it again"
                )
            rows += found
        self._starts = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        # Written backwards, so that a file's first row group stays.
        self._file_starts = {
            file: int(start) for (file, _), start in zip(self._groups[::-1], self._starts[-2::-1], strict=True)
        }
        self._choose_columns(image_column, label_column)
        self._unlabelled: dict[int, str] = {}
        self._read_labels([file for file in every if file not in set(self._files)])
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
        if index in self._unlabelled:
            raise UnreadableImage(f"its label is {self._unlabelled[index]}")
        return Item(self.item_name(index), image, None if self.labels is None else int(self.labels[index]))

    def item_name(self, index: int) -> str:
        group = int(np.searchsorted(self._starts, index, side="right")) - 1
        file = self._groups[group][0]
        return f"{file.name}:{index - self._file_starts[file]}"

    def fingerprint(self) -> str:
        parts = [(str(file), stamp(file)) for file in self._files]
        settings = (parts, self._image_column, self._label_column, self.label_names)
        labels = np.array([] if self.labels is None else self.labels, np.int64)
        return hashlib.sha256(repr(settings).encode() + labels.tobytes()).hexdigest()

    def _load(self, group: int) -> dict[str, list[Any]]:
        """The images of a row group; the last one is kept, as rows are asked for in order."""
        if self._loaded is None or self._loaded[0] != group:
            file, number = self._groups[group]
            column = self._image_column
            try:
                table = _open(file).read_row_group(number, columns=[column], use_threads=False)
                content = {column: table.column(column).to_pylist()}
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
        if (image_column and image_column not in images) or not images:
            raise UserError(f"{self._files[0]} has no column {image_column or ''} of images: it has {schema.names}")
        if len(images) > 1 and not image_column:
            raise UserError(f"{self._files[0]} has several columns of images, {images}: choose with --image-column")
        self._image_column = image_column or images[0]
        others = [name for name in schema.names if name != self._image_column]
        classes = [name for name in others if features.get(name, {}).get("_type") == "ClassLabel"]
        classes = classes or [name for name in others if name.lower() in LABEL_COLUMNS]
        if label_column not in (None, "none") and label_column not in others:
            raise UserError(f"{self._files[0]} has no column {label_column} of labels: it has {schema.names}")
        if label_column is None and len(classes) > 1:
            raise UserError(f"{self._files[0]} has several columns of labels, {classes}: {LABEL_ADVICE}")
        self._label_column = None if label_column == "none" else label_column or next(iter(classes), None)
        names = features.get(self._label_column or "", {}).get("names")
        listed = isinstance(names, list) and all(isinstance(name, str) for name in names)
        self._class_names = names if listed and names else None
        self.labels_from = "none: not read" if label_column == "none" else "none: there is no column of labels"

    def _read_labels(self, others: list[Path]) -> None:
        """Settles each row's class. The files of other splits have a say, so that a class has one number in all."""
        column = self._label_column
        if column is None:
            return
        values = [value for file in self._files for value in _column(file, column)]
        elsewhere: list[Any] = []
        for file in others:
            with suppress(UserError):  # damage there is no fault of this split
                elsewhere += _column(file, column)
        try:
            decided = labels_of_values([*values, *elsewhere], f"the column {printable(column)}", self._class_names)
        except UserError as error:
            raise UserError(f"{self.origin}, column {printable(column)}: {error}: {LABEL_ADVICE}") from error
        self.label_names, self.labels_from = decided.names, decided.source
        self.labels = decided.numbers and decided.numbers[: len(values)]
        self.labelled = self.labels is not None
        for index, label in enumerate(self.labels or ()):
            if label == NO_LABEL:
                self._unlabelled[index] = printable(str(values[index]))


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


def _column(file: Path, column: str) -> list[Any]:
    """A column's values, None in row groups where it cannot be read."""
    values: list[Any] = []
    opened = _open(file)
    for group in range(opened.metadata.num_row_groups):
        rows = opened.metadata.row_group(group).num_rows
        found: list[Any] = []
        with suppress(Exception):  # damaged pages raise errors of many kinds; their images will be missing, too
            found = opened.read_row_group(group, columns=[column], use_threads=False).column(column).to_pylist()
        values += found if len(found) == rows else [None] * rows
    return values


def _find_files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"there is nothing at {path}: pass a Parquet file, or a folder with some")
    found = [path] if path.is_file() else list(path.rglob("*.parquet"))
    if not found:
        raise UserError(f"{path} holds no .parquet file")
    return sorted(found, key=lambda file: natural_order(file.relative_to(path.parent).as_posix()))


def _choose_files(path: Path, files: list[Path], wanted: str | None) -> tuple[list[Path], str | None, str]:
    """The files of a split, its name, and where it comes from in words."""
    splits = {file: _split_of(file, path) for file in files}
    named = sorted({name for name in splits.values() if name})
    if wanted is None and len(set(splits.values())) > 1:
        more = ", and files of none" if None in splits.values() else ""
        raise UserError(f"{path} holds the splits {', '.join(named)}{more}: choose one with --split, or --split all")
    if wanted == "all" or not named:
        if wanted not in (None, "all") and not path.is_file():
            raise UserError(f"{path} holds no files of the split {wanted}: it has no splits by name")
        return files, wanted, "all" if wanted else "none: no file is called so"
    try:
        part = choose_part(wanted, named) if wanted else named[0]
    except UserError as error:
        raise UserError(f"{path} {error}") from error
    if part is None:
        raise UserError(f"{path} holds no files of the split {wanted}: it has {', '.join(named)}")
    chosen = [file for file in files if splits[file] == part]
    return chosen, wanted or split_of(part), f"the files called {printable(part)}"


def _split_of(file: Path, root: Path) -> str | None:
    """The split that a file's name, else a folder between it and `root`, stands for."""
    parts = file.relative_to(root.parent if root.is_file() else root).with_suffix("").parts
    shard = SHARD.fullmatch(parts[-1])  # the Hub's own way
    return shard[1] if shard else next(filter(None, map(split_of, reversed(parts))), None)


def _hub_features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What the Hub's writer says about the columns; empty where it says nothing."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: kind for name, kind in features if isinstance(kind, dict)}
