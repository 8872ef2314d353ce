"""Your own images: a folder, a zip or a tar of image files, at any nesting, with class folders or a table of labels."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitgan.data.branches import listed
from vitgan.data.labels import NO_LABEL, Labels, labels_of_folders, labels_of_values
from vitgan.data.sources.container import open_container
from vitgan.data.sources.source import Item, Provenance, Source, UnreadableImage, printable
from vitgan.data.splits import Split, choose_split
from vitgan.data.tables import assign, largest_table, read_pairs
from vitgan.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm")
SUFFIXES += (".jp2", ".avif", ".heic", ".heif")  # the last two cannot be decoded, which is to be seen and counted
# Tables that are looked for; others are named with --labels.
TABLES = (
    "dataset.json",
    "metadata.json",
    "metadata.jsonl",
    "metadata.csv",
    "labels.json",
    "labels.jsonl",
    "labels.csv",
)
TABLE_SUFFIXES = (".csv", ".tsv", ".jsonl")
THUMBNAILS = "@eaDir"  # which some network disks put into every folder

ADVICE = "pass --labels folders, --labels none, or --labels FILE with a table of them"
TABLE_ADVICE = "mend it, or pass --labels folders, --labels none, or another --labels FILE"


class ImageFolder(Source):
    """Image files in natural order of their names ("2.png" before "10.png").

    Files are chosen by suffix; hidden files and other suffixes are left out. `vitgan.data.splits` says what is a split,
    `vitgan.data.labels` what is a class.

    Args:
        path: The folder, zip or tar (also .tar.gz, .tar.bz2, .tar.xz).
        split: Read only the images of this split ("train" is the folder train, Train, training_set, ...) or below the
            folder of this name; "all" for all of them.
        labels: "auto" for a table `dataset.json` (StyleGAN's), `metadata` or `labels` that is there, else class
            folders, and for a UserError where it is in doubt that they are; "folders" insists on class folders, and
            leaves out images that lie in none; "none" ignores labels; else the file of a table, on the disk or inside
            `path`, and images that it does not name are left out.
        follow_links: Follow symbolic links to places outside the folder.

    Raises:
        UserError: Nothing there, no images, splits of which none is chosen, no labels where they are asked for, or a
            doubt whether there are any.
    """

    provenance = Provenance("folder")

    def __init__(
        self, path: str | Path, split: str | None = None, labels: str = "auto", follow_links: bool = False
    ) -> None:
        path = Path(path)
        if (path / "dataset.json").is_file() and (path / "images.npy").is_file():
            raise UserError(f"{path} is an image store already: train on it as it is")
        self.path, self.origin = path, str(path)

        def wanted(name: str) -> bool:
            table = name.rpartition("/")[2] in TABLES or name.lower().endswith(TABLE_SUFFIXES) or name == labels
            return (table or name.lower().endswith(SUFFIXES)) and THUMBNAILS not in name.split("/")

        self._container = open_container(path, wanted, follow_links=follow_links)
        self.refused = [entry for entry in self._container.refused if not entry[0].lower().endswith(TABLE_SUFFIXES)]
        names = self._container.names
        self._indices = [index for index, name in enumerate(names) if name.lower().endswith(SUFFIXES)]
        self._largest_table = largest_table(len(self._indices))
        if not self._indices:
            raise UserError(f"no images under {path}{self._why_none()} (looked for {', '.join(SUFFIXES)})")
        decided = self._decide(labels, self._choose_split(split, labels))
        self.labels, self.label_names, self.labels_from = decided.numbers, decided.names, decided.source
        self.labelled = self.labels is not None

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Item:
        label = None if self.labels is None else int(self.labels[index])
        if label == NO_LABEL:
            raise UnreadableImage("it has no label")
        return Item(self.item_name(index), self._container.read(self._indices[index]), label)

    def item_name(self, index: int) -> str:
        return self._container.names[self._indices[index]]

    def files(self) -> Iterable[Path]:
        return self._container.files()

    def _why_none(self) -> str:
        return f": {self.refused[0][0]}: {self.refused[0][1]}" if self.refused else ""

    def _choose_split(self, split: str | None, labels: str) -> Split:
        try:
            chosen = choose_split([self.item_name(index) for index in range(len(self))], split, labels == "folders")
        except UserError as error:
            raise UserError(f"{self.origin} {error}") from error
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
            raise UserError(f"{self.origin} has several tables of labels: {sources}: {ADVICE}")
        if given:
            return given[0]
        parts = list(chosen.parts.values())
        try:
            decided = labels_of_folders(chosen.names, parts, merged=chosen.name == "all", insist=labels == "folders")
        except UserError as error:
            raise UserError(f"{self.origin}: {error}: {ADVICE}") from error
        unread = [name for name in self._container.names if not name.lower().endswith(SUFFIXES)]
        if decided.numbers is None and unread:
            return replace(decided, source=f"{decided.source} ({listed(unread, 3)} is not read: --labels FILE does)")
        return decided

    def _read_tables(self) -> list[Labels]:
        """What each of the tables says that lie above the images; those that say nothing of labels are left alone."""
        above = {""}
        for folder in {self.item_name(index).rpartition("/")[0] for index in range(len(self))}:
            while folder:
                above.add(folder)
                folder = folder.rpartition("/")[0]
        tables = [name for name in self._container.names if name.rpartition("/")[2] in TABLES]
        found = []
        for name in tables:
            folder, _, file = name.rpartition("/")
            if folder in above:
                others = [
                    other for other in tables if other.endswith("/" + file) and other.rpartition("/")[0] not in above
                ]
                decided = self._labels_of_table(self._read_table(name), name, folder, self._values(others))
                found += [decided] if decided else []
        return found

    def _values(self, tables: list[str]) -> list[Any]:
        """All labels in the tables of other splits."""
        values = []
        for name in tables:
            with suppress(UserError):  # damage there is no fault of this split
                pairs = read_pairs(self._read_table(name), name, self._largest_table)
                values += [value for _, value in pairs or ()]
        return values

    def _read_chosen_table(self, file: str) -> Labels:
        """The labels of a table that the user names: on the disk, or inside the source."""
        try:
            if Path(file).is_file():
                place = Path(file).resolve()
                inside = place.is_relative_to(self.path.resolve())
                folder = place.parent.relative_to(self.path.resolve()).as_posix() if inside else ""
                with place.open("rb") as opened:
                    data = opened.read(self._largest_table + 1)
            elif file in self._container.names:
                folder, data = file.rpartition("/")[0], self._read_table(file)
            else:
                raise UserError(f"there is no table {file} for --labels, neither here nor in {self.origin}")
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
        decided = self._labels_of_table(data, file, "" if folder == "." else folder, insist=True)
        if decided is None:
            raise UserError(f"{file} has no column of image names with one of labels: call them file_name and label")
        return decided

    def _read_table(self, name: str) -> bytes:
        try:
            return self._container.read_named(name)
        except UnreadableImage as error:
            raise UserError(f"cannot read {name} in {self.origin}: {error}: {TABLE_ADVICE}") from error

    def _labels_of_table(
        self, data: bytes, file: str, folder: str, others: Sequence[Any] = (), insist: bool = False
    ) -> Labels | None:
        """What a table says; None if it is not about labels.

        Args:
            data: The table.
            file: Its name.
            folder: Where it lies, "" for the top.
            others: Labels in other splits' tables: a class has one number in all.
            insist: Images may be missing in it, and have no label.
        """
        file = printable(file)
        names = [self.item_name(index) for index in range(len(self))]
        try:
            pairs = read_pairs(data, file, self._largest_table)
            if not pairs:
                return None if pairs is None else Labels(None, None, f"none: {file} says that there are none")
            decided = labels_of_values([*(value for _, value in pairs), *others], file)
            if decided.numbers is None:
                return decided
            numbered = [(name, number) for (name, _), number in zip(pairs, decided.numbers, strict=False)]
            numbers, _ = assign(numbered, names, folder)
        except UserError as error:
            raise UserError(f"{file} in {self.origin}: {error}: {TABLE_ADVICE}") from error
        found = [NO_LABEL if number is None else number for number in numbers]
        missing = [name for name, number in zip(names, found, strict=True) if number == NO_LABEL]
        if missing and (not insist or len(missing) == len(names)):
            what = f"has no label for {len(missing):,} images, the first {printable(missing[0])}"
            raise UserError(f"{file} in {self.origin} {what}: {TABLE_ADVICE}")
        return Labels(found, decided.names, file)
