"""Your own images: a folder, a zip or a tar of image files, at any nesting, with class folders or a table of labels."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from vitgan.data.labels import NO_LABEL, Labels, labels_of_folders, labels_of_values
from vitgan.data.names import IMAGE_SUFFIXES, is_image, listed
from vitgan.data.sources.container import Container, open_container
from vitgan.data.sources.source import Provenance, Source, UnreadableImage
from vitgan.data.splits import Split, choose_split
from vitgan.data.tables import assign, largest_table, read_pairs
from vitgan.errors import UserError, one_line
from vitgan.files import user_error

# Tables that are looked for; others are named by `labels`.
TABLES = ("dataset.json", *(f"{stem}.{end}" for stem in ("metadata", "labels") for end in ("json", "jsonl", "csv")))
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
THUMBNAILS = "@eaDir"  # which some network disks put into every folder

ADVICE = 'choose "folders" or "none" as labels, or the file of a table'
TABLE_ADVICE = 'mend it, or choose "folders", "none" or another file as labels'


class FileSource(Source):
    """The images of a folder or archive.

    Args:
        path: What was opened.
        container: Its files.
        is_table: Which files are not missed if they cannot be read, by their names.

    Raises:
        UserError: There are no images.
    """

    def __init__(self, path: Path, container: Container, is_table: Callable[[str], bool]) -> None:
        self.origin, self._container = str(path), container
        self._indices = [index for index, name in enumerate(container.names) if is_image(name)]
        self.refused = [entry for entry in container.refused if not is_table(entry[0])]
        if not self._indices:
            why = f": {': '.join(map(one_line, self.refused[0]))}" if self.refused else ""
            raise UserError(f"no images under {path}{why} (looked for {', '.join(IMAGE_SUFFIXES)})")

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, index: int) -> str:
        return self._container.names[self._indices[index]]

    def read(self, index: int) -> bytes:
        return self._container.read(self._indices[index])

    def files(self) -> Iterable[Path]:
        return self._container.files()

    def names(self) -> list[str]:
        """The names of all images."""
        return [self._container.names[index] for index in self._indices]


class ImageFolder(FileSource):
    """Image files in natural order of their names ("2.png" before "10.png").

    Files are chosen by suffix; hidden files and other suffixes are left out. `vitgan.data.splits` says what is a split,
    `vitgan.data.labels` what is a class.

    Args:
        path: The folder, zip or tar (also .tar.gz, .tar.bz2, .tar.xz).
        split: Read only the images of this split ("train" is the folder train, Train, training_set, ...) or below the
            folder of this name; "all" for all of them.
        labels: "auto" for a table `dataset.json` (StyleGAN's), `labels`, or `metadata` with no head or a column
            called "label", "class", ..., that is there, else class folders, and for a UserError where it is in doubt that
            they are; "folders" insists on class folders, and leaves out images that lie in none; "none" ignores labels;
            else the file of a table, on the disk or inside `path`, and images that it does not name are left out.
        follow_links: Follow symbolic links to places outside the folder.
        label_column: The table's column of labels; None to find it.

    Raises:
        UserError: Nothing there, no images, splits of which none is chosen, no labels where they are asked for, or a
            doubt whether there are any.
    """

    provenance = Provenance("folder")

    def __init__(
        self,
        path: str | Path,
        split: str | None = None,
        labels: str = "auto",
        follow_links: bool = False,
        label_column: str | None = None,
    ) -> None:
        path, self._label_column = Path(path), label_column
        if label_column is not None and labels in ("folders", "none"):
            raise UserError(f"labels {labels} has no column: leave out one of the two", "label_column")
        if (path / "dataset.json").is_file() and (path / "images.npy").is_file():
            raise UserError(f"{path} is an image store already: train on it as it is")

        def wanted(name: str) -> bool:
            is_table = name.rpartition("/")[2] in TABLES or name.lower().endswith(TABLE_SUFFIXES) or name == labels
            return (is_table or is_image(name)) and THUMBNAILS not in name.split("/")

        container = open_container(path, wanted, follow_links=follow_links)
        super().__init__(path, container, lambda name: name.lower().endswith(TABLE_SUFFIXES))
        self._largest_table = largest_table(len(self._indices))
        self.take_labels(self._decide(labels, self._choose_split(split, labels)))

    def _choose_split(self, split: str | None, labels: str) -> Split:
        with user_error(self.origin, UserError):
            chosen = choose_split(self.names(), split, labels == "folders")
        self._indices = [self._indices[index] for index in chosen.kept]
        self.split, self.split_from = chosen.name, chosen.source
        return chosen

    def _decide(self, labels: str, chosen: Split) -> Labels:
        if labels == "none":
            return Labels(None, None, "none: not read")
        if labels not in ("auto", "folders"):
            return self._read_chosen_table(labels)
        given = self._read_tables() if labels == "auto" else []
        if len(given) > 1:
            sources = " and ".join(decided.source for decided in given)
            raise UserError(f"{self.origin} has several tables of labels: {sources}: {ADVICE}", "labels")
        if given:
            return given[0]
        if self._label_column is not None:
            raise UserError(
                f"{self.origin} has no table of labels with a column {self._label_column}: pass the table's file as labels",
                "label_column",
            )
        parts = list(chosen.parts.values())
        with user_error(self.origin, UserError, advice=ADVICE, parameter="labels"):
            decided = labels_of_folders(chosen.names, parts, merged=chosen.name == "all", insist=labels == "folders")
        unread = [name for name in self._container.names if not is_image(name)]
        if decided.numbers is None and unread:
            note = f" ({listed(unread, 3)} is not read, unless it is named as labels)"
            return Labels(None, None, decided.source + note)
        return decided

    def _read_tables(self) -> list[Labels]:
        """What each of the tables says that lie above the images; those that say nothing of labels are left alone."""
        folders = [folder.split("/") for folder in {name.rpartition("/")[0] for name in self.names()}]
        above = {"/".join(parts[:depth]) for parts in folders for depth in range(len(parts) + 1)}
        tables = [name for name in self._container.names if name.rpartition("/")[2] in TABLES]
        others: dict[str, list[Any]] = defaultdict(list)  # all labels in tables of other splits
        for name in tables:
            folder, _, file = name.rpartition("/")
            if folder not in above:
                with suppress(UserError):  # damage there is no fault of this split
                    data = self._read_table(name)
                    pairs = read_pairs(data, name, self._largest_table, self._label_column, found=True)
                    others[file] += [value for _, value in pairs or ()]
        found: list[Labels | None] = []
        for name in tables:
            folder, _, file = name.rpartition("/")
            if folder in above:
                found.append(self._labels_of_table(self._read_table(name), name, folder, others[file]))
        return [decided for decided in found if decided]

    def _read_chosen_table(self, file: str) -> Labels:
        """The labels of a table that the user names: on the disk, or inside the source."""
        root, place = Path(self.origin).resolve(), Path(file)
        if place.is_file():
            inside = place.resolve().is_relative_to(root)
            folder = place.resolve().parent.relative_to(root).as_posix() if inside else ""
            with user_error(f"cannot read {file}", OSError, parameter="labels"), place.open("rb") as opened:
                data = opened.read(self._largest_table + 1)
        elif file in self._container.names:
            folder, data = file.rpartition("/")[0], self._read_table(file)
        else:
            raise UserError(f"there is no table {file} of labels, neither here nor in {self.origin}", "labels")
        decided = self._labels_of_table(data, file, "" if folder == "." else folder, insist=True)
        if decided is None:
            advice = "call them file_name and label, or name the column of labels"
            raise UserError(f"{file} has no column of image names with one of labels: {advice}", "labels")
        return decided

    def _read_table(self, name: str) -> bytes:
        what = f"cannot read {name} in {self.origin}"
        with user_error(what, UnreadableImage, advice=TABLE_ADVICE, parameter="labels"):
            return self._container.read_named(name)

    def _labels_of_table(
        self, data: bytes, file: str, folder: str, others: Sequence[Any] = (), insist: bool = False
    ) -> Labels | None:
        """What a table in `folder` says; None if it is not about labels.

        `others` are the labels in other splits' tables: a class has one number in all. Who insists on the table may
        have images without a label.
        """
        file = one_line(file)
        with user_error(f"{file} in {self.origin}", UserError, advice=TABLE_ADVICE, parameter="labels"):
            pairs = read_pairs(data, file, self._largest_table, self._label_column, found=not insist)
            if not pairs:
                return None if pairs is None else Labels(None, None, f"none: {file} says that there are none")
            decided = labels_of_values([*(value for _, value in pairs), *others], file)
            if decided.numbers is None:
                return decided
            names = self.names()
            numbered = [(name, number) for (name, _), number in zip(pairs, decided.numbers, strict=False)]
            found = [NO_LABEL if number is None else number for number in assign(numbered, names, folder)[0]]
            missing = [name for name, number in zip(names, found, strict=True) if number == NO_LABEL]
            if missing and (not insist or len(missing) == len(names)):
                raise UserError(f"it has no label for {len(missing):,} images, the first {one_line(missing[0])}")
        return Labels(found, decided.names, file)
