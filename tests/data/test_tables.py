"""Tables that say something of images: whatever form people write them in, and whatever damage befalls them."""

import json
import os
import tracemalloc
from typing import Any

import numpy as np
import pytest

from refusals import refused
from vitgan.data.tables import assign, largest_table, read_pairs
from vitgan.errors import UserError

ROUNDS = int(os.environ.get("VITGAN_FUZZ_ROUNDS", "1"))
PAIRS = [("a.png", 0), ("b.png", 1)]
PAIRS_JSON = '[["a.png", 0], ["b.png", 1]]'


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("t.json", f'{{"labels": {PAIRS_JSON}}}'),
        ("t.json", PAIRS_JSON),
        ("t.json", '{"labels": {"a.png": 0, "b.png": 1}}'),
        ("t.json", '{"a.png": 0, "b.png": 1}'),
        ("t.json", '[{"file_name": "a.png", "label": 0}, {"file_name": "b.png", "label": 1}]'),
        ("t.jsonl", '{"file_name": "a.png", "label": 0}\n{"file_name": "b.png", "label": 1, "text": "\u2028"}\n\n'),
        ("t.csv", "file_name,label\na.png,0\nb.png,1\n"),
        ("t.csv", '"a.png","0"\r\n"b.png","1"\r\n'),
        ("t.csv", ",image_id,partition\n0,a.png,0\n1,b.png,1\n"),
        ("t.csv", "id;breed\na.png;0.0\nb.png;1.0\n"),
        ("t.csv", "text,filename,class\n0,a.png,0\n5,b.png,1\n"),
        ("t.csv", "class,path\n0,a.png\n1,b.png\n"),
        ("t.tsv", "file\tlabel\na.png\t0\nb.png\t1"),
        ("t.txt", "a.png 0\nb.png   1\n"),
        ("t.txt", "2\na.png\t  0\nb.png\t  1\n"),
        ("t.txt", "image_id partition\na.png 0\nb.png 1\n"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms_of_a_table(file: str, text: str, encoding: str) -> None:
    assert read_pairs(text.encode(encoding), file, largest_table(2)) == PAIRS


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("t.json", f'{{"labels": {PAIRS_JSON}}}'),
        ("t.json", '{"a.png": 0, "b.png": 1}'),
        ("t.jsonl", '{"file_name": "a.png", "label": 0}\n{"file_name": "b.png", "label": 1}'),
        ("t.csv", "id,Class\na.png,0\nb.png,1\n"),
        ("t.csv", "file_name,split,label\na.png,train,0\nb.png,test,1\n"),
        ("t.csv", "a.png,0\nb.png,1\n"),
        ("t.csv", "a.png 0\nb.png 1\n"),
        ("t.csv", "2\na.png 0\nb.png 1\n"),
    ],
)
def test_a_table_that_nobody_named_has_its_labels_without_head_or_under_their_name(file: str, text: str) -> None:
    assert read_pairs(text.encode(), file, largest_table(2), found=True) == PAIRS


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("metadata.csv", "file_name,split\na.png,train\nb.png,test\n"),
        ("metadata.csv", "file_name,width\na.png,64\nb.png,65\n"),
        ("metadata.csv", "file_name,caption,partition\na.png,a cat,0\nb.png,a dog,1\n"),
        ("metadata.csv", "file_name,split,width\na.png,train\nb.png,test\n"),
        ("metadata.csv", "file_name split\na.png train\nb.png test\n"),
        ("metadata.csv", "split\na.png train\nb.png test\n"),
        ("metadata.jsonl", '{"file_name": "a.png", "text": "a cat"}\n{"file_name": "b.png", "text": "a dog"}'),
        ("metadata.json", '[{"file_name": "a.png", "author": "x"}, {"file_name": "b.png", "author": "y"}]'),
    ],
)
def test_no_other_column_of_a_table_that_nobody_named_is_taken_for_labels(file: str, text: str) -> None:
    assert read_pairs(text.encode(), file, largest_table(2), found=True) is None


def test_words_numbers_and_empty_cells() -> None:
    rows = b"file,label\na b.png,big cat\nc.png,007\nd.png,\ne.png,-1\nf.png,nan\n"
    values = ["big cat", "007", None, -1, None]
    assert [value for _, value in read_pairs(rows, "t.csv", largest_table(5)) or []] == values
    assert read_pairs(b"my cat.png 3\n", "t.txt", largest_table(1)) == [("my cat.png", 3)]


ATTRIBUTES = "2\nBald Eye_Glasses Male\na.png -1  1 -1\nb.png  1 -1 -1\n"


@pytest.mark.parametrize("count", ["", "2\n"])
def test_a_list_of_attributes(count: str) -> None:
    rows = ATTRIBUTES.removeprefix("2\n")
    for column, values in (("Bald", (-1, 1)), ("eye_glasses", (1, -1)), ("Male", (-1, -1))):
        pairs = read_pairs((count + rows).encode(), "list_attr.txt", largest_table(2), column)
        assert pairs == [("a.png", values[0]), ("b.png", values[1])]
    assert read_pairs((count + rows).encode(), "list_attr.txt", largest_table(2)) is None
    one = read_pairs((count + "Male\na.png -1\nb.png 1\n").encode(), "list_attr.txt", largest_table(2))
    assert one == [("a.png", -1), ("b.png", 1)]
    for bad in (rows + "c.png 1\n", rows + "c.png 1 1 1 1\n"):
        with pytest.raises(UserError):
            read_pairs((count + bad).encode(), "list_attr.txt", largest_table(3), "Male")
    with refused("Beard", "eye_glasses"):
        read_pairs((count + rows).encode(), "list_attr.txt", largest_table(2), "Beard")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("t.json", '{"other": 1}'),
        ("t.json", '{"images": [], "annotations": [], "categories": []}'),
        ("t.jsonl", '{"file_name": "a.png", "text": "a cat", "author": "x"}'),
        ("t.csv", "file_name,width,height\na.png,3,4\n"),
        ("t.csv", "label\n1\n2\n"),
        ("t.txt", "cat\ndog\n"),
    ],
)
def test_tables_of_another_kind_say_nothing(file: str, text: str) -> None:
    assert read_pairs(text.encode(), file, largest_table(2)) is None


def test_null_says_that_there_are_no_labels() -> None:
    assert read_pairs(b'{"labels": null}', "t.json", largest_table(2)) == []


BAD = [
    ("t.json", b""),
    ("t.json", b"\xff"),
    ("t.json", b"\xff\xfe\x00"),
    ("t.json", b"[]"),
    ("t.json", b"3"),
    ("t.json", b"null"),
    ("t.json", b'{"labels": []}'),
    ("t.json", b'{"labels": 3}'),
    ("t.json", b'{"labels": "x"}'),
    ("t.json", b'{"labels": [["a.png", 0],]}'),
    ("t.json", b'{"labels": [["a.png", 0]'),
    ("t.json", b'{"labels": [[1, 2, 3]]}'),
    ("t.json", b'{"labels": [["a.png"]]}'),
    ("t.json", b'{"labels": [["a.png", NaN]]}'),
    ("t.json", b'{"labels": [["a.png", 1e999]]}'),
    ("t.json", b'{"labels": [["a.png", {"class": 1}]]}'),
    ("t.json", b'{"labels": [["a.png", [[[1]]]]]}'),
    ("t.json", b'{"labels": [[null, 1]]}'),
    ("t.json", b'{"labels": [["a.png", ' + b"9" * 5000 + b"]]}"),
    ("t.json", b'{"labels": {"a.png": 0, "a.png": 1}}'),
    ("t.json", b"[" * 100_000),
    ("t.json", b'{"a":' * 100_000),
    ("t.jsonl", b'{"file_name": "a.png", "label": 0}\n[1]\n'),
    ("t.jsonl", b'{"file_name": "a.png", "label": 0}\n{"file_name": 3, "label": 0}\n'),
    ("t.jsonl", b'{"file_name": "a.png", '),
    ("t.csv", b""),
    ("t.csv", b"a.png,0\nb.png\n"),
    ("t.csv", b"a.png,0\nb.png," + b"1" * 200_000),
    ("t.json", b'{"labels": [["a.png", 0]], "x": "' + b"x" * (1 << 21) + b'"}'),
]


@pytest.mark.parametrize(("file", "data"), BAD)
def test_bad_tables_are_refused_in_one_line(file: str, data: bytes) -> None:
    with pytest.raises(UserError) as error:
        read_pairs(data, file, largest_table(2))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 600


def test_damaged_tables_are_read_or_refused() -> None:
    generator = np.random.default_rng(0)
    sound = [
        ("t.json", json.dumps({"labels": [[f"{n}.png", n % 3] for n in range(9)]}).encode()),
        ("t.jsonl", b"".join(b'{"file_name": "%d.png", "label": %d}\n' % (n, n % 3) for n in range(9))),
        ("t.csv", b"file,label\n" + b"".join(b"%d.png,%d\n" % (n, n % 3) for n in range(9))),
    ]
    for _ in range(300 * ROUNDS):
        file, data = sound[generator.integers(3)]
        content = bytearray(data)
        start = int(generator.integers(len(content)))
        content[start : start + int(generator.integers(4))] = generator.bytes(int(generator.integers(4)))
        try:
            pairs = read_pairs(bytes(content), file, largest_table(9))
        except UserError as error:
            assert "\n" not in str(error)  # noqa: PT017 - one of several outcomes that are right
        else:
            assert pairs is None or all(isinstance(name, str) for name, _ in pairs)


@pytest.mark.parametrize(
    ("listed", "names", "folder"),
    [
        (["x/1.png", "y/1.png"], ["x/1.png", "y/1.png"], ""),
        (["./x/1.png", "/y/1.png"], ["x/1.png", "y/1.png"], ""),
        (["x\\1.png", "y\\1.png"], ["x/1.png", "y/1.png"], ""),
        (["x/1.png", "y/1.png"], ["top/x/1.png", "top/y/1.png"], "top"),
        (["top/x/1.png", "top/y/1.png"], ["top/x/1.png", "top/y/1.png"], "top"),
        (["x/1.png", "y/1.png"], ["top/x/1.png", "top/y/1.png"], ""),
        (["images/1.png", "images/2.png"], ["1.png", "2.png"], ""),
        (["1.png", "2.png"], ["00000/1.png", "00001/2.png"], ""),
        (["1.jpg", "2.jpg"], ["faces/1.png", "faces/2.png"], ""),
        (["1", "2"], ["1.png", "2.png"], ""),
        (["caf\u00e9.png", "2.png"], ["cafe\u0301.png", "2.png"], ""),
        (["Mr. 1.png", "v1.2"], ["Mr. 1.png", "v1.2.png"], ""),
    ],
)
def test_names_are_found_however_they_are_written(listed: list[str], names: list[str], folder: str) -> None:
    values, unknown = assign([(name, position) for position, name in enumerate(listed)], names, folder)
    assert values == [0, 1]
    assert unknown == []


def assigned(listed: list[str], names: list[str]) -> list[Any]:
    return assign([(name, position) for position, name in enumerate(listed)], names)[0]


def test_no_name_is_taken_for_another() -> None:
    assert assigned(["1.png"], ["x/1.png", "y/1.png"]) == [None, None]
    assert assigned(["dogs/1.png", "cats/2.png"], ["cats/1.png", "cats/2.png"]) == [None, 1]
    assert assigned(["1.jpg"], ["1.png", "1.webp"]) == [None, None]
    assert assigned(["10.png"], ["1.png"]) == [None]


def test_names_without_image_are_told() -> None:
    assert assign([("1.png", 5), ("2.png", 6)], ["1.png"]) == ([5], ["2.png"])
    assert assign([], ["1.png"]) == ([None], [])


def test_a_name_with_two_values_is_refused() -> None:
    assert assigned(["1.png"], ["1.png"]) == assign([("1.png", 0), ("./1.png", 0)], ["1.png"])[0]
    with refused("1.png", 0, 1):
        assign([("1.png", 0), ("./1.png", 1)], ["1.png"])


def test_records_that_share_few_keys_take_little_memory() -> None:
    records = [{"file_name": f"{number}.png", "label": number % 2, f"own{number}": 0} for number in range(2000)]
    data = "\n".join(map(json.dumps, records)).encode()
    tracemalloc.start()
    pairs = read_pairs(data, "labels.jsonl", 1 << 20)
    largest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pairs == [(f"{number}.png", number % 2) for number in range(2000)]
    assert largest < 100 * len(data)
