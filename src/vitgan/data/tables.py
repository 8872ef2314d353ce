"""Tables that say something of each image: JSON, JSON Lines, CSV, TSV or words in lines -> (name, value) pairs.

The tables are strangers'. Nothing but finite numbers, words, booleans and flat lists comes out of them.
"""

import codecs
import csv
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import FailFast, Field, FiniteFloat, StrictBool, StrictInt, StrictStr, TypeAdapter, ValidationError

from vitgan.data.names import is_image
from vitgan.errors import UserError, one_line
from vitgan.files.reading import without_repetition

Scalar = StrictBool | StrictInt | FiniteFloat | StrictStr | None
Value = Scalar | Annotated[list[Scalar], Field(fail_fast=True)]
Pair = tuple[str, Any]

NAME_COLUMNS = ("file_name", "filename", "file", "image", "image_id", "img", "path", "filepath", "id", "name")
VALUE_COLUMNS = ("label", "labels", "class", "class_id", "class_name", "category", "target")
BYTES_PER_IMAGE = 1024
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}

_pairs = TypeAdapter(Annotated[list[tuple[StrictStr, Value]], FailFast()])


def read_pairs(
    data: bytes, file: str, largest: int, column: str | None = None, found: bool = False
) -> list[Pair] | None:
    """What a table says of images.

    Args:
        data: Its content.
        file: Its name: .json, .jsonl, .csv, .tsv, or anything else for lines of words.
        largest: How many bytes it may have, see `largest_table`.
        column: Where the values are; None to find it.
        found: Nobody named the table. If it is called metadata and has a head, its values are in a column that is called
            so, and not in just any column beside the names, which may hold splits, sizes or captions.

    Returns:
        (name, value) in the table's order; empty if it says that there are no values; None if it is a table of another
        kind.

    Raises:
        UserError: It is damaged, too large, or its names or values are nothing that a label can be. The message says
            why, not what to do.
    """
    if len(data) > largest:
        raise UserError(f"it has more than {largest:,} bytes, too many for a table of these images")
    found = found and PurePath(file).stem.lower() == "metadata"
    try:
        text = data.decode(next((code for mark, code in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8"))
        if file.lower().endswith(".json"):
            return _pairs_of_json(json.loads(text, object_pairs_hook=without_repetition), column, found)
        if file.lower().endswith(".jsonl"):
            lines = [line for line in text.split("\n") if line.strip()]
            records = [json.loads(line, object_pairs_hook=without_repetition) for line in lines]
            return _pairs_of_records(records, column, found)
        return _pairs_of_rows(read_rows(text, column), column, found)
    except ValidationError as error:
        place = error.errors(include_input=False, include_url=False)[0]["loc"][0]
        expected = "a name with a whole number, a word or a one-hot list"
        raise UserError(f"its entry {place} is not {expected}") from error
    except (ValueError, RecursionError, csv.Error) as error:
        raise UserError(f"it cannot be read: {one_line(str(error))}") from error


def largest_table(images: int) -> int:
    """Bytes that a table of so many images may have: 1 KiB for each, and 1 MiB."""
    return (1 << 20) + images * BYTES_PER_IMAGE


def read_rows(text: str, column: str | None = None) -> list[list[str]]:
    """Cells of a table whose columns are separated by tabs, commas, semicolons or spaces, quoted or not.

    Of CelebA's list of attributes only the names of images and the wanted column: it has 8 million cells.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    separator = next((mark for mark in "\t,;" if lines and mark in lines[0]), None)
    if separator is None:
        if (rows := _rows_of_attributes(lines, column)) is not None:
            return rows
        # The name may have spaces.
        return [[cell.strip("\"'") for cell in line.strip().rsplit(maxsplit=1)] for line in lines]
    return [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=separator, skipinitialspace=True)]


def _rows_of_attributes(lines: list[str], column: str | None) -> list[list[str]] | None:
    """CelebA's form: perhaps a count, the attributes' names, then lines with an image's name and a value for each."""
    lines = lines[1:] if lines and lines[0].strip().isdecimal() else lines
    head, first = ([*line.split()] for line in [*lines, "", ""][:2])
    if not head or len(first) != len(head) + 1 or is_image(head[0]) or not is_image(first[0]):
        return None
    keys = ["image_id", *head]
    wanted = column or (head[0] if len(head) == 1 else "")
    kept = [0, *(place for place, key in enumerate(head, 1) if key.lower() == wanted.lower())]
    if len(kept) == 1:
        return [keys, first]  # enough to say that there is no such column, or which there are
    rows = [[keys[place] for place in kept]]
    for line in lines[1:]:
        row = line.split()
        if len(row) != len(keys):
            raise ValueError(f"it has {len(head)} attributes, but the line {line!r} has {len(row) - 1}")
        rows.append([row[place] for place in kept])
    return rows


def assign(pairs: list[Pair], names: list[str], folder: str = "") -> tuple[list[Any], list[str]]:
    """The value of each image.

    Names are compared as they stand, below the table's folder or the top; else without the folders that all have in
    common; else, if the table gives none, without folders; and at last without suffixes, as PNGs made from JPEGs have
    others. Whichever finds most is taken.

    Args:
        pairs: (name, value) from a table.
        names: Names of the images, with "/".
        folder: The table's own folder, "" for the top.

    Returns:
        A value for each of `names`, None where there is none, and the names in the table that no image has.

    Raises:
        UserError: A name has two values.
    """
    listed = [_tidy(name) for name, _ in pairs]
    there = [_tidy(name) for name in names]
    best: dict[int, int] = {}
    for as_listed, as_there in _ways(listed, there, folder):
        found = _meet(as_listed, as_there)
        if len(found) > len(best):
            best = found
        if len(best) == len(names):
            break
    values: dict[int, Any] = {}
    for position, place in best.items():
        value = pairs[position][1]
        if values.setdefault(place, value) != value:
            raise UserError(f"{one_line(names[place])} stands twice in the table, as {values[place]} and as {value}")
    unknown = [name for position, (name, _) in enumerate(pairs) if position not in best]
    return [values.get(place) for place in range(len(names))], unknown


def _ways(listed: list[str], there: list[str], folder: str) -> Iterator[tuple[list[str], list[str]]]:
    """Both sides' names, made comparable in one way after another."""
    for shorten in (str, _stem):
        if folder:
            yield [shorten(f"{folder}/{name}") for name in listed], [shorten(name) for name in there]
        yield [shorten(name) for name in listed], [shorten(name) for name in there]
        yield [shorten(name) for name in _without_common(listed)], [shorten(name) for name in _without_common(there)]
        if not any("/" in name for name in listed):
            yield [shorten(name) for name in listed], [shorten(name.rpartition("/")[2]) for name in there]


def _meet(listed: Iterable[str], there: Iterable[str]) -> dict[int, int]:
    """Position in the table -> position of the one image of this name."""
    places: dict[str, int | None] = {}
    for place, name in enumerate(there):
        places[name] = None if name in places else place
    found = ((position, places.get(name)) for position, name in enumerate(listed))
    return {position: place for position, place in found if place is not None}


def _tidy(name: str) -> str:
    name = name.strip().replace("\\", "/")
    name = name if name.isascii() else unicodedata.normalize("NFC", name)
    return name.removeprefix("./").lstrip("/")


def _stem(name: str) -> str:
    return name.rpartition(".")[0] if is_image(name) else name


def _without_common(names: list[str]) -> list[str]:
    """The names from the deepest folder that holds all of them."""
    folders = [name.split("/")[:-1] for name in names]
    first, last = min(folders, default=[]), max(folders, default=[])
    shared = [one == other for one, other in zip(first, last, strict=False)]
    depth = [*shared, False].index(False)
    return ["/".join(name.split("/")[depth:]) for name in names]


def _pairs_of_json(content: Any, column: str | None, found: bool) -> list[Pair] | None:
    """StyleGAN's {"labels": [["a.png", 0], ...]} or null; the list alone; a dictionary; or a list of records."""
    if isinstance(content, dict) and "labels" in content:
        content = content["labels"]
        if content is None:
            return []
    elif isinstance(content, dict) and not any(map(is_image, content)):
        return None
    entries = list(content.items()) if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise ValueError('expected {"labels": [["a.png", 0], ["b.png", 1], ...]} or null in place of the list')
    if all(isinstance(entry, dict) for entry in entries):
        return _pairs_of_records(entries, column, found)
    if column is not None:
        raise ValueError(f"it has no columns, so none called {column}")
    return list(_pairs.validate_python(entries))


def _pairs_of_records(records: list[Any], column: str | None, found: bool) -> list[Pair] | None:
    """Of objects such as {"file_name": "a.png", "label": 0}."""
    if not all(isinstance(record, dict) for record in records):
        raise ValueError("expected an object in each line")
    keys = list(dict.fromkeys(key for record in records for key in record))
    first = [records[0].get(key) for key in keys] if records else []
    columns = _choose_columns(keys, first, column, found)
    if columns is None:
        return None
    name, value = (keys[column] for column in columns)
    return list(_pairs.validate_python([(record.get(name), record.get(value)) for record in records]))


def _pairs_of_rows(rows: list[list[str]], column: str | None, found: bool) -> list[Pair] | None:
    if not rows:
        raise ValueError("it is empty")
    head = [cell.lower() for cell in rows[0]]
    headed = not any(map(is_image, head))
    body = [row for row in rows[headed:] if len(row) > 1 or len(head) > 1]
    if not body:
        return None
    keys = head if headed and len(head) == len(body[0]) else [str(column) for column in range(len(body[0]))]
    odd = next((row for row in body if len(row) != len(keys)), None)
    columns = _choose_columns(keys, body[0], column, found and headed and len(head) > 1)  # one cell is a count
    if columns is None:
        return None
    if odd:
        raise ValueError(f"it has {len(keys)} columns, but the row {odd} has {len(odd)}")
    name, value = columns
    return [(row[name], _number(row[value])) for row in body]


def _choose_columns(
    keys: list[str], first: list[Any], wanted_column: str | None, by_name: bool
) -> tuple[int, int] | None:
    """The column of names and that of values, by their keys and the first row; None if these cannot be told.

    The only column beside the names is that of values, whatever it is called, unless they are to be known `by_name`.

    Raises:
        ValueError: There is no column of values of the wanted name.
    """
    columns = range(len(keys))
    names = [column for column, cell in enumerate(first) if isinstance(cell, str) and is_image(cell)]
    names += [column for wanted in NAME_COLUMNS for column in columns if keys[column].lower() == wanted]
    rest = [column for column in columns if keys[column] and column not in names[:1]]
    known = VALUE_COLUMNS if wanted_column is None else (wanted_column.lower(),)
    values = [column for column in rest if keys[column].lower() in known]
    if wanted_column is not None and not values:
        raise ValueError(f"it has no column {wanted_column}, but {', '.join(keys)}")
    values = values if by_name or len(values) == 1 else rest
    return (names[0], values[0]) if names and len(values) == 1 else None


def _number(cell: str) -> Any:
    """A cell as the number that it writes; else the word; None for an empty one."""
    if re.fullmatch(r"(0|-?[1-9][0-9]{0,17})(\.0+)?", cell):
        return int(cell.partition(".")[0])
    return None if cell.lower() in ("", "nan") else cell
