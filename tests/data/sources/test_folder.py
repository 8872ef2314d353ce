import json
import os
import tarfile
import zipfile

import numpy as np
import pytest

from data.samples import encoded, make_store, random_pixels, write_image
from refusals import refused
from vitgan.data.prepare import prepare
from vitgan.data.sources.container import Container
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError


def names_and_labels(source):
    labels = [None] * len(source) if source.labels is None else source.labels.tolist()
    return [(source.name(index), label) for index, label in enumerate(labels)]


def test_class_folders_become_labels_in_natural_order(tmp_path):
    pixels = {}
    for number, name in enumerate(["class10/2.png", "class10/10.png", "class9/deep/er/1.png", "class9/1.png"]):
        pixels[name] = write_image(tmp_path / "in" / name, number)
    store = prepare(ImageFolder(tmp_path / "in"), tmp_path / "store", resolution=8)
    order = ["class9/1.png", "class9/deep/er/1.png", "class10/2.png", "class10/10.png"]
    assert np.array_equal(store.images, np.stack([pixels[name] for name in order]))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 0, 1, 1]
    assert store.description.label_names == ["class9", "class10"]


def pack_zip(folder, archive):
    with zipfile.ZipFile(archive, "w") as opened:
        for file in folder.rglob("*.png"):
            opened.write(file, file.relative_to(folder))


def pack_tar(folder, archive):
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(folder, ".")


@pytest.mark.parametrize("pack", [pack_zip, pack_tar])
def test_archives_give_the_same_store_as_the_folder(tmp_path, pack):
    for number in range(20):
        write_image(tmp_path / "in" / f"class{number % 3}" / f"{number}.png", number)
    pack(tmp_path / "in", tmp_path / "packed")
    one = prepare(ImageFolder(tmp_path / "in"), tmp_path / "one", resolution=8)
    two = prepare(ImageFolder(tmp_path / "packed"), tmp_path / "two", resolution=8, workers=2)
    assert one.description.sha256 == two.description.sha256
    assert one.description.labels_sha256 == two.description.labels_sha256
    assert one.description.label_names == two.description.label_names


def test_labels_can_be_insisted_on(tmp_path):
    write_image(tmp_path / "a" / "1.png", 0)
    write_image(tmp_path / "b" / "1.png", 1)
    assert names_and_labels(ImageFolder(tmp_path, labels="folders")) == [("a/1.png", 0), ("b/1.png", 1)]
    write_image(tmp_path / "1.png", 2)
    with refused("1.png", parameter="labels"):
        ImageFolder(tmp_path)
    store = prepare(ImageFolder(tmp_path, labels="folders"), tmp_path / "store", resolution=8)
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1]
    assert [(entry.name, entry.reason) for entry in store.description.skipped] == [("1.png", "it has no label")]
    with refused(tmp_path / "a", parameter="labels"):
        ImageFolder(tmp_path / "a", labels="folders")


def test_splits_must_be_chosen(tmp_path):
    for number, name in enumerate(["train/a/1.png", "train/b/2.png", "train/b/3.png", "test/a/4.png", "test/b/5.png"]):
        write_image(tmp_path / name, number)
    with refused("test, train", parameter="split"):
        ImageFolder(tmp_path)
    train = ImageFolder(tmp_path, split="train")
    assert names_and_labels(train) == [("train/a/1.png", 0), ("train/b/2.png", 1), ("train/b/3.png", 1)]
    assert train.label_names == ["a", "b"]
    merged = ImageFolder(tmp_path, split="all")
    assert [label for _, label in names_and_labels(merged)] == [0, 1, 0, 1, 1]
    assert merged.label_names == ["a", "b"]
    with refused("'val'", "test, train", parameter="split"):
        ImageFolder(tmp_path, split="val")
    assert len(ImageFolder(tmp_path / "train", split=None)) == 3


def test_classes_have_the_same_numbers_in_every_split(tmp_path):
    for number, name in enumerate(["train/a/1.png", "train/b/2.png", "train/c/3.png", "train/c/4.png", "test/c/5.png"]):
        write_image(tmp_path / name, number)
    write_image(tmp_path / "test" / "a" / "6.png", 6)
    write_image(tmp_path / "test" / "a" / "7.png", 7)
    assert names_and_labels(ImageFolder(tmp_path, "test")) == [
        ("test/a/6.png", 0),
        ("test/a/7.png", 0),
        ("test/c/5.png", 2),
    ]


def test_a_class_called_train_is_asked_about(tmp_path):
    for number, name in enumerate(["bus/1.png", "bus/2.png", "train/3.png"]):
        write_image(tmp_path / name, number)
    with refused("train", parameter="split"):
        ImageFolder(tmp_path)
    for source in (ImageFolder(tmp_path, "all"), ImageFolder(tmp_path, labels="folders")):
        assert [label for _, label in names_and_labels(source)] == [0, 0, 1]
    assert len(ImageFolder(tmp_path, "train")) == 1


def stylegan_zip(path, labels, names=("00000/img00000000.png", "00000/img00000001.png", "00000/img00000002.png")):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, encoded(random_pixels(number)))
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    return path


def test_stylegan_zips_have_their_labels_from_dataset_json(tmp_path):
    labels = [["00000/img00000002.png", 0], ["00000/img00000000.png", 6], ["00000/img00000001.png", 9]]
    source = ImageFolder(stylegan_zip(tmp_path / "images.zip", labels))
    store = prepare(source, tmp_path / "store", resolution=8)
    assert np.array_equal(store.images, np.stack([random_pixels(number).transpose(2, 0, 1) for number in range(3)]))
    assert store.labels is not None
    assert store.labels.tolist() == [6, 9, 0]
    assert store.label_count == 10


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        ([["00000/img00000000.png", 1]], [2, "00000/img00000001.png"]),
        ([[f"00000/img0000000{number}.png", [0.5, 0.5]] for number in range(3)], [1, 0]),
        ([[f"00000/img0000000{number}.png", number - 1] for number in range(3)], [1, "00000/img00000000.png"]),
        ([[f"00000/img0000000{number}.png", number - 2] for number in range(3)], [-2]),
        ([[f"00000/img0000000{number}.png", 10**7 + number] for number in range(3)], [10**7 + 2]),
        ({"x.png": 0, "y.png": 1}, [3, "00000/img00000000.png"]),
        (3, ["dataset.json"]),
        ([], ["dataset.json"]),
    ],
)
def test_incomplete_or_odd_label_files_are_refused(tmp_path, labels, facts):
    path = stylegan_zip(tmp_path / "images.zip", labels)
    with refused(path, "dataset.json", *facts, parameter="labels"):
        ImageFolder(path)
    assert len(ImageFolder(path, labels="none")) == 3


def test_a_dataset_json_of_another_kind_is_left_alone(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"class{number % 2}" / f"{number}.png", number)
    (tmp_path / "dataset.json").write_text('{"info": {}, "annotations": []}')
    assert ImageFolder(tmp_path).label_names == ["class0", "class1"]


def test_a_table_that_says_there_are_no_labels_goes_before_folders(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"class{number % 2}" / f"{number}.png", number)
    (tmp_path / "dataset.json").write_text('{"labels": null}')
    source = ImageFolder(tmp_path)
    assert source.labels is None
    assert "dataset.json" in source.labels_from
    assert ImageFolder(tmp_path, labels="folders").label_names == ["class0", "class1"]


def test_dataset_json_one_folder_down(tmp_path):
    for number in range(4):
        write_image(tmp_path / "in" / "mine" / "00000" / f"{number}.png", number)
    labels = [[f"00000/{number}.png", number % 2] for number in range(4)]
    (tmp_path / "in" / "mine" / "dataset.json").write_text(json.dumps({"labels": labels}))
    pack_zip(tmp_path / "in", tmp_path / "packed.zip")
    with zipfile.ZipFile(tmp_path / "packed.zip", "a") as archive:
        archive.write(tmp_path / "in" / "mine" / "dataset.json", "mine/dataset.json")
    for path in (tmp_path / "in", tmp_path / "packed.zip"):
        source = ImageFolder(path)
        assert [label for _, label in names_and_labels(source)] == [0, 1, 0, 1]
        assert source.labels_from == "mine/dataset.json"


def test_hub_folders_have_their_labels_from_metadata(tmp_path):
    """One table in each split; classes have one number in both, though the table of test lacks a class."""
    for split, words in (("train", ["owl", "cat", "dog"]), ("test", ["owl", "dog"])):
        for number in range(len(words)):
            write_image(tmp_path / split / f"{number}.png", number)
        lines = [json.dumps({"file_name": f"{number}.png", "label": word}) for number, word in enumerate(words)]
        (tmp_path / split / "metadata.jsonl").write_text("\n".join(lines))
    train = ImageFolder(tmp_path, "train")
    assert [label for _, label in names_and_labels(train)] == [2, 0, 1]
    assert train.label_names == ["cat", "dog", "owl"]
    assert [label for _, label in names_and_labels(ImageFolder(tmp_path, "test"))] == [2, 1]


@pytest.mark.parametrize("column", ["split", "width", "photographer", "text", "caption,partition"])
def test_metadata_about_something_else_does_not_replace_class_folders(tmp_path, column):
    names = [f"{name}/{number}.png" for name in ("cat", "dog") for number in range(3)]
    for number, name in enumerate(names):
        write_image(tmp_path / name, number)
    cells = [",".join(f"{part}{number % 2}" for part in column.split(",")) for number in range(6)]
    rows = [f"file_name,{column}", *map(",".join, zip(names, cells, strict=True))]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    assert names_and_labels(ImageFolder(tmp_path)) == list(zip(names, [0, 0, 0, 1, 1, 1], strict=True))
    if "," not in column:  # whoever names the table means its only other column
        named = ImageFolder(tmp_path, labels=str(tmp_path / "metadata.csv"))
        assert names_and_labels(named) == list(zip(names, [0, 1, 0, 1, 0, 1], strict=True))


def test_a_found_table_without_head_gives_labels(tmp_path):
    for number in range(4):
        write_image(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.csv").write_text("".join(f"{number}.png,{'ab'[number % 2]}\n" for number in range(4)))
    assert ImageFolder(tmp_path).label_names == ["a", "b"]


def test_a_zip_with_backslashes_has_its_splits_and_classes(tmp_path):
    """As older tools for Windows write it."""
    names = [f"{split}/{name}/{n}.png" for split in ("test", "train") for name in ("cat", "dog") for n in range(2)]
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for number, name in enumerate(names):
            archive.writestr(name.replace("/", "\\"), encoded(random_pixels(number)))
    with refused("test, train", parameter="split"):
        ImageFolder(tmp_path / "in.zip")
    source = ImageFolder(tmp_path / "in.zip", "train")
    assert names_and_labels(source) == list(zip(names[4:], [0, 0, 1, 1], strict=True))
    assert [source.read(index) for index in range(4)] == [encoded(random_pixels(number)) for number in range(4, 8)]


@pytest.mark.parametrize("place", ["outside", "inside", "archive"])
def test_a_table_can_be_named(tmp_path, place):
    for number in range(4):
        write_image(tmp_path / "in" / f"{number}.png", number)
    rows = "image_id,breed\n0.png,pug\n1.png,\n2.png,beagle\n3.png,pug\n"
    table = tmp_path / ("breeds.csv" if place == "outside" else "in/breeds.csv")
    table.write_text(rows)
    source, labels = tmp_path / "in", str(table)
    if place == "archive":
        pack_zip(tmp_path / "in", tmp_path / "in.zip")
        with zipfile.ZipFile(tmp_path / "in.zip", "a") as archive:
            archive.writestr("breeds.csv", rows)
        source, labels = tmp_path / "in.zip", "breeds.csv"
    assert ImageFolder(source).labels is None
    store = prepare(ImageFolder(source, labels=labels), tmp_path / "store", resolution=8)
    assert store.labels is not None
    assert store.labels.tolist() == [1, 0, 1]
    assert store.description.label_names == ["beagle", "pug"]
    assert [entry.name for entry in store.description.skipped] == ["1.png"]
    with refused("other.csv", parameter="labels"):
        ImageFolder(source, labels="other.csv")
    (tmp_path / "sizes.csv").write_text("image,width,height\n0.png,8,8\n")
    with refused("sizes.csv", parameter="labels"):
        ImageFolder(source, labels=str(tmp_path / "sizes.csv"))


def test_a_table_that_is_not_read_is_mentioned(tmp_path):
    write_image(tmp_path / "1.png", 0)
    (tmp_path / "train.csv").write_text("id,label\n1.png,3\n")
    assert "train.csv" in ImageFolder(tmp_path).labels_from


def test_two_tables_are_asked_about(tmp_path):
    write_image(tmp_path / "1.png", 0)
    for name in ("dataset.json", "labels.json"):
        (tmp_path / name).write_text('[["1.png", 0]]')
    with refused("dataset.json", "labels.json", parameter="labels"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, labels="labels.json").labels_from == "labels.json"


def test_thumbnails_and_what_other_systems_leave_are_no_classes(tmp_path):
    for number, name in enumerate(["a/1.png", "a/2.png", "b/3.png", "@eaDir/4.png", ".x/5.png", "__MACOSX/a/._1.png"]):
        write_image(tmp_path / name, number)
    source = ImageFolder(tmp_path)
    assert source.label_names == ["a", "b"]
    assert len(source) == 3


def test_empty_folders_and_stores_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with refused(tmp_path, ".png"):
        ImageFolder(tmp_path)
    make_store(tmp_path / "store", 3)
    with refused(tmp_path / "store"):
        ImageFolder(tmp_path / "store")


def test_names_that_are_not_text_are_escaped(tmp_path):
    for number, name in enumerate([b"\xff", b"\xff", b"a\nb"]):
        write_image(tmp_path / "in" / os.fsdecode(name) / f"{number}.png", number)
    (tmp_path / "in" / os.fsdecode(b"\xff") / "\x1b[2J.png").write_bytes(b"")
    store = prepare(ImageFolder(tmp_path / "in"), tmp_path / "store", resolution=8)
    assert store.description.label_names == ["a\\nb", "\\udcff"]
    assert [entry.name for entry in store.description.skipped] == ["\\udcff/\\x1b[2J.png"]


def test_every_table_is_read_once_however_many_folders_have_one(tmp_path, monkeypatch):
    for split, count in (("train", 4), ("test", 3)):
        for number in range(count):
            write_image(tmp_path / split / f"c{number}" / "1.png", number)
            write_image(tmp_path / split / f"c{number}" / "2.png", number)
            (tmp_path / split / f"c{number}" / "metadata.csv").write_text("text,author,place\na,b,c\n")
    read = []
    read_named = Container.read_named
    monkeypatch.setattr(Container, "read_named", lambda self, name: read.append(name) or read_named(self, name))
    assert ImageFolder(tmp_path, "train").label_names == ["c0", "c1", "c2", "c3"]
    assert len(read) == len(set(read)) == 7


@pytest.mark.parametrize("file", ["animals.csv", "metadata.jsonl"])
def test_a_tables_column_of_labels_is_chosen_by_name(tmp_path, file):
    rows = [{"file_name": f"{number}.png", "Breed": ["pug", "corgi"][number % 2], "age": number} for number in range(4)]
    for number in range(4):
        write_image(tmp_path / f"{number}.png", number)
    if file.endswith("csv"):
        text = "\n".join([",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)])
    else:
        text = "\n".join(map(json.dumps, rows))
    (tmp_path / file).write_text(text)
    labels = str(tmp_path / file) if file == "animals.csv" else "auto"
    source = ImageFolder(tmp_path, labels=labels, label_column="breed")
    assert source.label_names == ["corgi", "pug"]
    assert source.labels is not None
    assert source.labels.tolist() == [1, 0, 1, 0]
    for kind, column in ((labels, "colour"), ("none", "breed")):
        with pytest.raises(UserError) as error:
            ImageFolder(tmp_path, labels=kind, label_column=column)
        assert error.value.parameter in ("labels", "label_column")


@pytest.mark.parametrize("table", [{"0.png": 0, "1.png": 1}, {"labels": [["0.png", 0], ["1.png", 1]]}])
def test_a_column_of_a_table_without_columns_is_refused(tmp_path, table):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", number)
    (tmp_path / "labels.json").write_text(json.dumps(table))
    file = str(tmp_path / "labels.json")
    assert ImageFolder(tmp_path, labels=file).labels is not None
    with pytest.raises(UserError) as error:
        ImageFolder(tmp_path, labels=file, label_column="breed")
    assert error.value.parameter in ("labels", "label_column")


@pytest.mark.parametrize("table", [None, "key,breed\n0,pug\n1,corgi\n"])
def test_a_column_does_nothing_where_no_table_is_read(tmp_path, table):
    for number in range(2):
        write_image(tmp_path / f"{number}.png", number)
    if table:  # which has no column of names
        (tmp_path / "labels.csv").write_text(table)
    with refused("breed", parameter="label_column"):
        ImageFolder(tmp_path, label_column="breed")
