import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.samples import encoded, random_pixels
from refusals import refused
from vitgan.data.prepare import prepare
from vitgan.data.sources.parquet import ParquetImages


def hub_table(numbers, image="image", label="label", names=("cat", "dog", "owl")):
    """As the Hub's library writes image columns: a struct of bytes and path, and its own JSON in the metadata."""
    images = [{"bytes": encoded(random_pixels(number)), "path": f"{number}.png"} for number in numbers]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({image: pa.array(images, kind), label: pa.array([number % 3 for number in numbers], pa.int64())})
    features = {image: {"_type": "Image"}, label: {"names": list(names), "_type": "ClassLabel"}}
    return table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def labels_of(source):
    assert source.labels is not None
    return source.labels.tolist()


def expected(numbers):
    return np.stack([random_pixels(number).transpose(2, 0, 1) for number in numbers])


def write_hub_folder(path):
    """Two train files with several row groups, and a test file."""
    (path / "data").mkdir(parents=True)
    pq.write_table(hub_table(range(10)), path / "data" / "train-00000-of-00002.parquet", row_group_size=4)
    pq.write_table(hub_table(range(10, 15)), path / "data" / "train-00001-of-00002.parquet")
    pq.write_table(hub_table(range(15, 20)), path / "data" / "test-00000-of-00001.parquet")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_labels_and_names(tmp_path, workers):
    write_hub_folder(tmp_path / "hub")
    source = ParquetImages(tmp_path / "hub", "train")
    store = prepare(source, tmp_path / "store", resolution=8, workers=workers)
    assert np.array_equal(store.images, expected(range(15)))
    assert store.labels is not None
    assert store.labels.tolist() == [number % 3 for number in range(15)]
    assert store.description.label_names == ["cat", "dog", "owl"]
    assert source.name(9) == "train-00000-of-00002.parquet:9"
    assert source.name(12) == "train-00001-of-00002.parquet:2"


def test_rows_in_any_order_and_in_a_copy(tmp_path):
    write_hub_folder(tmp_path)
    source = pickle.loads(pickle.dumps(ParquetImages(tmp_path, "all")))
    order = np.random.default_rng(0).permutation(len(source)).tolist()
    test_first = [15, 16, 17, 18, 19, *range(15)]  # "test" is before "train" by name
    for index in order:
        assert source.read(index) == encoded(random_pixels(test_first[index]))


def test_splits(tmp_path):
    write_hub_folder(tmp_path)
    assert len(ParquetImages(tmp_path, "test")) == 5
    with refused("test, train", parameter="split"):
        ParquetImages(tmp_path)
    with refused("valid", "test, train", parameter="split"):
        ParquetImages(tmp_path, "valid")
    assert len(ParquetImages(tmp_path / "data" / "test-00000-of-00001.parquet")) == 5


def test_plain_binary_columns_and_choice_of_columns(tmp_path):
    images = [encoded(random_pixels(number)) for number in range(4)]
    table = pa.table({"photo": images, "other": images[::-1], "kind": [3, 1, 2, 0]})
    pq.write_table(table, tmp_path / "table.parquet")
    with refused("photo", "other", parameter="image_column"):
        ParquetImages(tmp_path)
    source = ParquetImages(tmp_path, image_column="photo", label_column="kind")
    assert [source.read(index) for index in range(4)] == images
    assert labels_of(source) == [3, 1, 2, 0]
    assert ParquetImages(tmp_path, image_column="other").labels is None
    with refused("colour", parameter="label_column"):
        ParquetImages(tmp_path, image_column="photo", label_column="colour")
    with refused("colour", parameter="image_column"):
        ParquetImages(tmp_path, image_column="colour")


def plain_table(labels, column="label"):
    images = [encoded(random_pixels(number)) for number in range(len(labels))]
    return pa.table({"image": images, column: labels})


@pytest.mark.parametrize("column", ["label", "labels", "Label", "fine_label", "class", "category", "target"])
@pytest.mark.parametrize(
    ("labels", "numbers", "names"),
    [
        (pa.array([2, 0, 1]), [2, 0, 1], None),
        (pa.array([1, 2, 3], pa.uint8()), [0, 1, 2], ["1", "2", "3"]),
        (pa.array(["owl", "cat", "owl"]), [1, 0, 1], ["cat", "owl"]),
        (pa.array(["owl", "cat", "owl"]).dictionary_encode(), [1, 0, 1], ["cat", "owl"]),
        (pa.array([True, False, True]), [1, 0, 1], ["False", "True"]),
        (pa.array([1.0, 0.0, 1.0]), [1, 0, 1], None),
        (pa.array([[0, 1], [1, 0], [0, 1]]), [1, 0, 1], None),
    ],
)
def test_labels_of_any_kind(tmp_path, column, labels, numbers, names):
    pq.write_table(plain_table(labels, column), tmp_path / "table.parquet")
    source = ParquetImages(tmp_path)
    assert labels_of(source) == numbers
    assert source.label_names == names
    assert column in source.labels_from


def test_a_row_without_label_is_left_out(tmp_path):
    pq.write_table(plain_table([0, -1, 1]), tmp_path / "table.parquet")
    store = prepare(ParquetImages(tmp_path), tmp_path / "store", resolution=8)
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1]
    assert [entry.name for entry in store.description.skipped] == ["table.parquet:1"]


def test_words_stored_as_bytes(tmp_path):
    pq.write_table(plain_table([b"owl", b"cat"]), tmp_path / "table.parquet")
    source = ParquetImages(tmp_path, image_column="image")
    assert labels_of(source) == [1, 0]
    assert source.label_names == ["cat", "owl"]


def test_several_columns_of_labels_are_asked_about(tmp_path):
    table = plain_table([0, 1], "fine_label").append_column("coarse_label", pa.array([1, 0]))
    pq.write_table(table, tmp_path / "table.parquet")
    with refused("coarse_label", parameter="label_column"):
        ParquetImages(tmp_path)
    assert labels_of(ParquetImages(tmp_path, label_column="coarse_label"))[0] == 1


def test_a_class_has_one_number_in_all_splits(tmp_path):
    for split, words in (("train", ["owl", "cat", "dog"]), ("test", ["owl", "dog"])):
        pq.write_table(plain_table(words), tmp_path / f"{split}-00000-of-00001.parquet")
    for split, numbers in (("train", [2, 0, 1]), ("test", [2, 1])):
        source = ParquetImages(tmp_path, split)
        assert labels_of(source) == numbers
        assert source.label_names == ["cat", "dog", "owl"]
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"damaged")
    assert len(ParquetImages(tmp_path, "train")) == 3


@pytest.mark.parametrize(
    ("files", "wanted", "taken"),
    [
        (["train-00000-of-00001", "unlabelled-00000-of-00001"], "train", 1),
        (["plants-00000-of-00001", "animals-00000-of-00001"], "plants", 1),
        (["trainA-00000-of-00001", "trainB-00000-of-00001"], "trainB", 1),
        (["default/partial-train/0000", "default/partial-train/0001", "default/test/0000"], "train", 2),
        (["train_1", "train_2", "Validation"], "training", 2),
        (["Validation", "train"], "val", 1),
        (["train-00000-of-00001-0123abcd", "odd"], "train", 1),
    ],
)
def test_names_of_splits(tmp_path, files, wanted, taken):
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(hub_table(range(1)), tmp_path / f"{file}.parquet")
    with refused(tmp_path, parameter="split"):
        ParquetImages(tmp_path)
    source = ParquetImages(tmp_path, wanted)
    assert len(source) == taken
    assert source.split == wanted
    assert len(ParquetImages(tmp_path, "all")) == len(files)


def test_the_only_split_is_recorded(tmp_path):
    pq.write_table(hub_table(range(2)), tmp_path / "test-00000-of-00001.parquet")
    assert ParquetImages(tmp_path).split == "test"
    pq.write_table(hub_table(range(2)), tmp_path / "plain.parquet")
    assert ParquetImages(tmp_path / "plain.parquet").split is None


def test_rows_without_bytes_or_label_are_skipped(tmp_path):
    table = hub_table(range(5))
    images, labels = table.column("image").to_pylist(), table.column("label").to_pylist()
    images[1], images[2], labels[3], labels[4] = None, {"bytes": None, "path": "x.png"}, None, 7
    damaged = pa.table({"image": pa.array(images, table.schema.field("image").type), "label": labels})
    pq.write_table(damaged.replace_schema_metadata(table.schema.metadata), tmp_path / "table.parquet")
    store = prepare(ParquetImages(tmp_path), tmp_path / "store", resolution=8)
    assert np.array_equal(store.images, expected([0]))
    reasons = [entry.reason for entry in store.description.skipped]
    assert reasons[:3] == ["the table has no bytes for it"] * 2 + ["it has no label"]
    assert " 7 " in reasons[3]
    assert "0 to 2" in reasons[3]


def test_a_split_without_labels_is_unlabelled_though_another_has_some(tmp_path):
    for split, labels in (("train", [0, 1, 2]), ("test", [-1, -1])):
        pq.write_table(plain_table(labels), tmp_path / f"{split}-00000-of-00001.parquet")
    assert labels_of(ParquetImages(tmp_path, "train")) == [0, 1, 2]
    source = ParquetImages(tmp_path, "test")
    assert source.labels is None
    assert len(prepare(source, tmp_path / "store", resolution=8)) == 2


def test_a_damaged_row_group_does_not_spoil_the_others(tmp_path):
    file = tmp_path / "table.parquet"
    pq.write_table(hub_table(range(12)), file, row_group_size=4, compression="gzip")
    column = pq.ParquetFile(file).metadata.row_group(1).column(0)
    data = bytearray(file.read_bytes())
    start = column.data_page_offset + 60
    data[start : start + 400] = bytes(400)
    file.write_bytes(data)
    store = prepare(ParquetImages(file), tmp_path / "store", resolution=8)
    assert np.array_equal(store.images, expected([0, 1, 2, 3, 8, 9, 10, 11]))
    assert store.description.skipped_count == 4
    assert "row group 1" in store.description.skipped[0].reason


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-10], lambda data: b"x" * 200])
def test_files_that_are_not_parquet_are_refused(tmp_path, damage):
    pq.write_table(hub_table(range(3)), tmp_path / "table.parquet")
    (tmp_path / "table.parquet").write_bytes(damage((tmp_path / "table.parquet").read_bytes()))
    with refused(tmp_path / "table.parquet"):
        ParquetImages(tmp_path)


def test_missing_files_and_columns(tmp_path):
    with refused(tmp_path / "nowhere"):
        ParquetImages(tmp_path / "nowhere")
    with refused(tmp_path, ".parquet"):
        ParquetImages(tmp_path)
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "table.parquet")
    with refused("table.parquet", "text", parameter="image_column"):
        ParquetImages(tmp_path)


def hub_names(names):
    return {"info": {"features": {"label": {"_type": "ClassLabel", "names": names}}}}


@pytest.mark.parametrize(
    "metadata",
    ["[" * 100_000, "3", json.dumps({"info": {"features": ["x"]}}), json.dumps(hub_names("abc")),
     json.dumps(hub_names(7)), json.dumps(hub_names([1, 2, 3])), json.dumps(hub_names({"a": 1}))],
)  # fmt: skip
def test_metadata_that_says_nothing_of_use_is_left_alone(tmp_path, metadata):
    table = hub_table(range(3)).replace_schema_metadata({"huggingface": metadata})
    pq.write_table(table, tmp_path / "table.parquet")
    store = prepare(ParquetImages(tmp_path), tmp_path / "store", resolution=8)
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1, 2]
    assert store.description.label_names is None


def test_names_of_classes_are_safe_on_a_terminal(tmp_path):
    pq.write_table(hub_table(range(3), names=("\x1b[31mred", "b", "c")), tmp_path / "table.parquet")
    store = prepare(ParquetImages(tmp_path), tmp_path / "store", resolution=8)
    assert store.description.label_names == ["\\x1b[31mred", "b", "c"]


@pytest.mark.parametrize("content", ["text", 7, [1, 2]])
def test_a_struct_whose_bytes_are_none_is_no_column_of_images(tmp_path, content):
    pq.write_table(pa.table({"image": [{"bytes": content}] * 3}), tmp_path / "table.parquet")
    with refused("table.parquet", "image", parameter="image_column"):
        ParquetImages(tmp_path)


def test_labels_beyond_any_number_of_classes_are_refused(tmp_path):
    images = [encoded(random_pixels(number)) for number in range(4)]
    labels = pa.array([0, 1, 10**7, 2**63 + 1], pa.uint64())
    pq.write_table(pa.table({"image": images, "label": labels}), tmp_path / "table.parquet")
    with refused(tmp_path, 2**63 + 1, parameter="label_column"):
        ParquetImages(tmp_path)
