import json
import os
import tarfile
import zipfile

import numpy as np
import pytest

from data.samples import encoded, make_store, random_pixels, write_image
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError


def names_and_labels(source):
    return [(source.item_name(index), source[index].label) for index in range(len(source))]


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


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["1.png", "2.png"], None),  # flat
        (["a/1.png", "a/2.png"], None),  # one folder
        (["1.png", "a/2.png", "b/3.png", "b/4.png"], None),  # some in no class
        (["a/1.png", "b/2.png"], None),  # a folder for each image
        (["x/y/a/1.png", "x/y/b/2.png", "x/y/b/3.png"], [0, 1, 1]),  # below a common folder
    ],
)
def test_labels_only_where_they_make_sense(tmp_path, names, labels):
    for number, name in enumerate(names):
        write_image(tmp_path / name, number)
    source = ImageFolder(tmp_path)
    assert source.labelled == (labels is not None)
    assert [label for _, label in names_and_labels(source)] == (labels or [None] * len(names))
    assert not ImageFolder(tmp_path, labels="none").labelled


def test_labels_can_be_insisted_on(tmp_path):
    write_image(tmp_path / "a" / "1.png", 0)
    write_image(tmp_path / "b" / "1.png", 1)
    assert names_and_labels(ImageFolder(tmp_path, labels="folders")) == [("a/1.png", 0), ("b/1.png", 1)]
    write_image(tmp_path / "1.png", 2)
    with pytest.raises(UserError, match="no class folders"):
        ImageFolder(tmp_path, labels="folders")


def test_splits_must_be_chosen(tmp_path):
    for number, name in enumerate(["train/a/1.png", "train/b/2.png", "train/b/3.png", "test/a/4.png", "test/b/5.png"]):
        write_image(tmp_path / name, number)
    with pytest.raises(UserError, match="holds the splits test, train"):
        ImageFolder(tmp_path)
    train = ImageFolder(tmp_path, split="train")
    assert names_and_labels(train) == [("train/a/1.png", 0), ("train/b/2.png", 1), ("train/b/3.png", 1)]
    assert train.label_names == ["a", "b"]
    assert len(ImageFolder(tmp_path, split="all")) == 5
    with pytest.raises(UserError, match=r"no folder 'val'.*test, train"):
        ImageFolder(tmp_path, split="val")
    assert len(ImageFolder(tmp_path / "train", split=None)) == 3


def test_a_single_split_folder_can_be_named(tmp_path):
    write_image(tmp_path / "train" / "a" / "1.png", 0)
    assert len(ImageFolder(tmp_path, split="train")) == 1


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


def test_stylegan_zips_without_labels(tmp_path):
    source = ImageFolder(stylegan_zip(tmp_path / "images.zip", None))
    assert len(source) == 3
    assert not source.labelled


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([["00000/img00000000.png", 1]], "no label for 2 images, the first 00000/img00000001.png"),
        ([[f"00000/img0000000{number}.png", [0.5, 0.5]] for number in range(3)], "not whole numbers"),
    ],
)
def test_incomplete_or_odd_label_files_are_refused(tmp_path, labels, message):
    path = stylegan_zip(tmp_path / "images.zip", labels)
    with pytest.raises(UserError, match=message):
        ImageFolder(path)
    assert len(ImageFolder(path, labels="none")) == 3


@pytest.mark.parametrize("content", ["", "[]", '{"labels": 3}', '{"other": 1}', '{"labels": [[1, 2, 3]]}', "\udcff"])
def test_a_dataset_json_of_another_kind_is_left_alone(tmp_path, content):
    write_image(tmp_path / "1.png", 0)
    (tmp_path / "dataset.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert not ImageFolder(tmp_path).labelled


def test_empty_folders_and_stores_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(UserError, match="no images under"):
        ImageFolder(tmp_path)
    make_store(tmp_path / "store", 3)
    with pytest.raises(UserError, match="an image store already"):
        ImageFolder(tmp_path / "store")


def test_names_that_are_not_text_are_escaped(tmp_path):
    for number, name in enumerate([b"\xff", b"\xff", b"a\nb"]):
        write_image(tmp_path / "in" / os.fsdecode(name) / f"{number}.png", number)
    (tmp_path / "in" / os.fsdecode(b"\xff") / "\x1b[2J.png").write_bytes(b"")
    store = prepare(ImageFolder(tmp_path / "in"), tmp_path / "store", resolution=8)
    assert store.description.label_names == ["a\\nb", "\\udcff"]
    assert [entry.name for entry in store.description.skipped] == ["\\udcff/\\x1b[2J.png"]


def test_the_fingerprint_tells_sources_apart(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png", number)
    first = ImageFolder(tmp_path).fingerprint()
    assert ImageFolder(tmp_path).fingerprint() == first
    write_image(tmp_path / "3.png", 3)
    assert ImageFolder(tmp_path).fingerprint() != first
