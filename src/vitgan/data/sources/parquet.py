"""Tables of encoded images in Parquet files, as the Hugging Face Hub keeps CIFAR-10, CelebA, LSUN and most others."""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitgan.data.labels import NO_LABEL, Labels, labels_of_values
from vitgan.data.names import natural_order
from vitgan.data.sources.source import Provenance, Source, UnreadableImage
from vitgan.data.splits import choose_part, split_of
from vitgan.errors import UserError, one_line
from vitgan.files import regular_size, user_error

if TYPE_CHECKING:
    import pyarrow.parquet

LABEL_COLUMNS = ("label", "labels", "fine_label", "coarse_label", "class", "class_id", "category", "target")
LABEL_ADVICE = 'choose a column of labels, or "none"'
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
        self._groups = [(file, number, rows) for file in self._files for number, rows in enumerate(_rows(file))]
        self._starts = np.cumsum([0, *(len(rows) for _, _, rows in self._groups)], dtype=np.int64)
        schema = _open(self._files[0]).schema_arrow
        self._image_column = _choose_image_column(self._files[0], schema, image_column)
        self._loaded: tuple[int, list[Any] | str] = (-1, "")
        others = [name for name in schema.names if name != self._image_column]
        features = _hub_features(schema.metadata)
        if label_column == "none":
            self.labels_from = "none: not read"
        elif chosen := _choose_label_column(self._files[0], others, features, label_column):
            self._read_labels(chosen, features.get(chosen, {}).get("names"), every)
        else:
            self.labels_from = "none: there is no column of labels"

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_loaded": (-1, "")}

    def __len__(self) -> int:
        return int(self._starts[-1])

    def name(self, index: int) -> str:
        group = self._group_of(index)
        file, _, rows = self._groups[group]
        return f"{file.name}:{rows[index - int(self._starts[group])]}"

    def read(self, index: int) -> bytes:
        group = self._group_of(index)
        if self._loaded[0] != group:  # the last group is kept, as rows are asked for in order
            self._loaded = (group, self._load(group))
        images = self._loaded[1]
        if isinstance(images, str):
            raise UnreadableImage(images)
        image = images[index - int(self._starts[group])]
        image = image["bytes"] if isinstance(image, dict) else image
        if image is None:
            raise UnreadableImage("the table has no bytes for it")
        return image

    def files(self) -> Iterable[Path]:
        return self._files

    def fingerprint(self) -> str:
        return f"{super().fingerprint()} {self._image_column}"

    def _group_of(self, index: int) -> int:
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def _load(self, group: int) -> list[Any] | str:
        """The images of a row group, or what is wrong with it."""
        file, number, rows = self._groups[group]
        try:
            images = _read_group(_open(file), number, self._image_column)
        except Exception as error:  # damaged pages raise errors of many kinds
            return f"row group {number} is damaged: {one_line(str(error), 100)}"
        return images if len(images) == len(rows) else f"row group {number} is damaged: it has {len(images)} rows"

    def _read_labels(self, column: str, names: Any, every: list[Path]) -> None:
        """Settles each row's class. The files of other splits have a say, so that a class has one number in all."""
        known = names if isinstance(names, list) and names and all(isinstance(name, str) for name in names) else None
        values = [value for file in self._files for value in _column(file, column)]
        elsewhere: list[Any] = []
        for file in every:
            if file not in self._files:
                with suppress(UserError):  # damage there is no fault of this split
                    elsewhere += _column(file, column)
        name = f"the column {one_line(column)}"
        with user_error(f"{self.origin}: {name}", UserError, advice=LABEL_ADVICE, parameter="label_column"):
            self.take_labels(labels_of_values([*values, *elsewhere], name, known))
        if self.labels is not None:
            self.labels = self.labels[: len(values)]
            if (self.labels == NO_LABEL).all():
                self.take_labels(Labels(None, None, f"none: {name} has no label in this split"))


def _open(file: Path) -> "pyarrow.parquet.ParquetFile":
    with user_error("reading Parquet needs the package pyarrow", ImportError, advice="pip install 'vitgan[parquet]'"):
        import pyarrow.parquet
    # Damaged files raise errors of many kinds.
    with user_error(f"{file} is not a sound Parquet file", Exception, advice="fetch it again"):
        regular_size(file)
        opened = pyarrow.parquet.ParquetFile(file, page_checksum_verification=True)
        _ = opened.schema_arrow  # which is decoded only now
        return opened


def _rows(file: Path) -> list[range]:
    """The rows of each of a file's row groups."""
    metadata = _open(file).metadata
    sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    if min(sizes, default=0) < 0 or sum(sizes) != metadata.num_rows:
        raise UserError(f"{file} is damaged: {metadata.num_rows} rows, in groups of {sizes[:10]}: fetch it again")
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]


def _read_group(opened: "pyarrow.parquet.ParquetFile", group: int, column: str) -> list[Any]:
    return opened.read_row_group(group, columns=[column], use_threads=False).column(column).to_pylist()


def _column(file: Path, column: str) -> list[Any]:
    """A column's values, None in row groups where it cannot be read."""
    values: list[Any] = []
    opened = _open(file)
    for group, rows in enumerate(_rows(file)):
        found: list[Any] = []
        with suppress(Exception):  # damaged pages raise errors of many kinds; their images will be missing, too
            found = _read_group(opened, group, column)
        values += found if len(found) == len(rows) else [None] * len(rows)
    return values


def _choose_image_column(file: Path, schema: Any, wanted: str | None) -> str:
    import pyarrow.types as types

    def holds_images(kind: Any) -> bool:
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        return types.is_binary(kind) or types.is_large_binary(kind)

    images = [field.name for field in schema if holds_images(field.type)]
    if (wanted and wanted not in images) or not images:
        raise UserError(f"{file} has no column {wanted or ''} of images: it has {schema.names}", "image_column")
    if len(images) > 1 and not wanted:
        raise UserError(f"{file} has several columns of images, {images}: choose one", "image_column")
    return wanted or images[0]


def _choose_label_column(file: Path, names: list[str], features: dict[str, Any], wanted: str | None) -> str | None:
    if wanted is not None and wanted not in names:
        raise UserError(f"{file} has no column {wanted} of labels: it has {names}", "label_column")
    found = [name for name in names if features.get(name, {}).get("_type") == "ClassLabel"]
    found = found or [name for name in names if name.lower() in LABEL_COLUMNS]
    if wanted is None and len(found) > 1:
        raise UserError(f"{file} has several columns of labels, {found}: {LABEL_ADVICE}", "label_column")
    return wanted or next(iter(found), None)


def _hub_features(metadata: dict[bytes, bytes] | None) -> dict[str, Any]:
    """What the Hub's writer says about the columns; empty where it says nothing."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"].items()
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError):
        return {}
    return {name: kind for name, kind in features if isinstance(kind, dict)}


def _find_files(path: Path) -> list[Path]:
    if not path.exists():
        raise UserError(f"there is nothing at {path}: pass a Parquet file, or a folder with some")
    found = [path] if path.is_file() else list(path.rglob("*.parquet"))
    if not found:
        raise UserError(f"{path} holds no .parquet file")
    return sorted(found, key=lambda file: natural_order(file.relative_to(path.parent).as_posix()))


def _choose_files(path: Path, files: list[Path], wanted: str | None) -> tuple[list[Path], str | None, str]:
    """The files of a split, its name, and where it comes from in words."""
    found: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        found[_split_of(file, path) or ""].append(file)
    if set(found) == {""} and wanted not in (None, "all") and not path.is_file():
        raise UserError(f"{path} holds no files of the split {wanted}: it has no splits by name", "split")
    if wanted == "all" or set(found) == {""}:
        return files, wanted, "all" if wanted else "none: no file is called so"
    with user_error(str(path), UserError):
        part = choose_part(found, wanted)
    return found[part], wanted or split_of(part), f"the files called {one_line(part)}"


def _split_of(file: Path, root: Path) -> str | None:
    """The split that a file's name, else a folder between it and `root`, stands for."""
    parts = file.relative_to(root.parent if root.is_file() else root).with_suffix("").parts
    shard = SHARD.fullmatch(parts[-1])  # the Hub's own way
    return shard[1] if shard else next(filter(None, map(split_of, reversed(parts))), None)
