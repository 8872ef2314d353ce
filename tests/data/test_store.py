import hashlib
import json
import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from filelock import Timeout
from hypothesis import given
from hypothesis import strategies as st

import vitgan.data.store
from data.samples import files_of_at_most, image_numbers, make_store, random_pixels
from refusals import refused
from vitgan.data.store import ImageStore
from vitgan.data.writer import StoreWriter, find_duplicates, partial_folder
from vitgan.errors import UserError
from vitgan.files.folders import MARKER


def images_of(count, first=0):
    return np.stack([random_pixels(first + index, channels=1)[None] for index in range(count)])


def writer_for(path, **options):
    return StoreWriter(path, resolution=8, channels=1, **options)


def test_what_is_written_is_what_numpy_and_hashlib_read(tmp_path):
    images, labels = images_of(7), np.array([3, 1, 4, 1, 5, 2, 6])
    with writer_for(tmp_path / "store", labelled=True) as writer:
        writer.append(images[:3], labels[:3])
        writer.append(images[3:], labels[3:])
        store = writer.finish(source="test", licence="free")
    assert np.array_equal(np.load(tmp_path / "store" / "images.npy"), images)
    assert np.array_equal(np.load(tmp_path / "store" / "labels.npy"), labels)
    description = json.loads((tmp_path / "store" / "dataset.json").read_text())
    assert description["sha256"] == hashlib.sha256(images.tobytes()).hexdigest()
    assert (description["count"], description["licence"]) == (7, "free")
    assert (len(store), store.resolution, store.channels, store.label_count) == (7, 8, 1, 7)
    assert isinstance(store.images, np.memmap)
    assert np.array_equal(store.images[4], images[4])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["store"]
    assert sorted(file.name for file in (tmp_path / "store").iterdir()) == [
        ".vitgan.json",
        "dataset.json",
        "images.npy",
        "labels.npy",
    ]


def test_nothing_appears_before_finish_and_nothing_stays_without_it(tmp_path):
    with writer_for(tmp_path / "store") as writer:
        writer.append(images_of(2))
        assert not (tmp_path / "store").exists()
    assert list(tmp_path.iterdir()) == []


def test_two_writers_cannot_make_the_same_store(tmp_path):
    with writer_for(tmp_path / "store") as first:
        with refused(tmp_path / "store", cause=Timeout):
            writer_for(tmp_path / "store")
        first.append(images_of(1))
        first.finish(source="test")


def test_an_existing_folder_is_refused_and_only_a_store_is_overwritten(tmp_path):
    make_store(tmp_path / "store", 3)
    with refused(tmp_path / "store", parameter="overwrite"):
        writer_for(tmp_path / "store")
    with writer_for(tmp_path / "store", overwrite=True) as writer:
        writer.append(images_of(4))
        writer.finish(source="test")
    assert len(ImageStore.open(tmp_path / "store")) == 4

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    with refused(tmp_path / "precious", MARKER):
        writer_for(tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


def test_an_empty_store_is_refused(tmp_path):
    with refused(tmp_path / "store"), writer_for(tmp_path / "store") as writer:
        writer.finish(source="test")
    assert list(tmp_path.iterdir()) == []


def damage_header(store):
    (store / "images.npy").write_bytes(b"\x93NUMPY nonsense")


def truncate(store):
    data = (store / "images.npy").read_bytes()
    (store / "images.npy").write_bytes(data[:-1])


def fewer_images(store):
    np.save(store / "images.npy", np.load(store / "images.npy")[:-1])


def pickled_images(store):
    np.save(store / "images.npy", np.array([{}], object), allow_pickle=True)


def fewer_labels(store):
    np.save(store / "labels.npy", np.load(store / "labels.npy")[:-1])


def edit_description(**changes):
    def edit(store):
        content = json.loads((store / "dataset.json").read_text())
        (store / "dataset.json").write_text(json.dumps(content | changes))

    return edit


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (lambda store: (store / "dataset.json").unlink(), ["dataset.json"]),
        (lambda store: (store / "images.npy").unlink(), ["images.npy"]),
        (lambda store: (store / "labels.npy").unlink(), ["labels.npy"]),
        (lambda store: (store / "images.npy").write_bytes(b""), ["images.npy"]),
        (damage_header, ["images.npy"]),
        (truncate, ["images.npy"]),
        (pickled_images, ["images.npy"]),
        (fewer_images, ["images.npy", "uint8 (4, 1, 4, 4)", "uint8 (5, 1, 4, 4)"]),
        (fewer_labels, ["labels.npy", "int64 (4,)", "int64 (5,)"]),
        (edit_description(count=6), ["images.npy", "uint8 (5, 1, 4, 4)", "uint8 (6, 1, 4, 4)"]),
        (edit_description(channels=2), ["dataset.json", "2 channels"]),
        (edit_description(colour="red"), ["dataset.json", "colour"]),
        (lambda store: (store / "dataset.json").write_bytes(b"{\xff"), ["dataset.json"]),
    ],
)
def test_damaged_stores_are_refused_in_one_line(tmp_path, damage, facts):
    make_store(tmp_path / "store", 5, labelled=True)
    damage(tmp_path / "store")
    with refused(tmp_path / "store", *facts):
        ImageStore.open(tmp_path / "store")


def test_a_missing_store_is_named(tmp_path):
    with refused(tmp_path / "nowhere", "dataset.json"):
        ImageStore.open(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x")
    with refused(tmp_path / "file", "dataset.json"):
        ImageStore.open(tmp_path / "file")


@pytest.mark.parametrize("file", ["images.npy", "labels.npy"])
def test_verify_sees_one_altered_byte(tmp_path, file):
    store = make_store(tmp_path / "store", 50, labelled=True)
    seen = []
    store.verify(lambda done, total: seen.append((done, total)))
    assert seen[-1] == (50, 50)
    data = bytearray((store.path / file).read_bytes())
    data[-8] ^= 1
    (store.path / file).write_bytes(data)
    with refused(store.path, file.partition(".")[0]):
        ImageStore.open(store.path).verify()


def test_duplicates_are_described(tmp_path):
    images = images_of(6)
    images[3] = images[1]
    images[5] = images[1]
    with writer_for(tmp_path / "store") as writer:
        writer.append(images[:4])
        writer.append(images[4:])
        store = writer.finish(source="test")
    assert store.description.duplicate_count == 2
    assert store.description.duplicates == [(1, 3), (1, 5)]


def test_wrong_arrays_are_the_callers_error(tmp_path):
    with writer_for(tmp_path / "store") as writer:
        for images, labels in [
            (images_of(2).astype(np.float32), None),
            (np.zeros((2, 3, 8, 8), np.uint8), None),
            (images_of(2), np.zeros(2, np.int64)),
        ]:
            with refused(kind=ValueError):
                writer.append(images, labels)


def resigned(labels):
    """Labels that the description vouches for: nonsense from the start, not damage."""

    def change(store):
        np.save(store / "labels.npy", labels)
        digest = hashlib.sha256(labels.astype("<i8").tobytes()).hexdigest()
        edit_description(labels_sha256=digest)(store)

    return change


def npz(store):
    np.savez(store / "images.npz", np.load(store / "images.npy"))
    (store / "images.npz").replace(store / "images.npy")


def fortran_order(store):
    np.save(store / "images.npy", np.asfortranarray(np.load(store / "images.npy")))


def fifo(name):
    def change(store):
        (store / name).unlink()
        os.mkfifo(store / name)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        resigned(np.array([0, 1, 2, 3, -1])),
        resigned(np.array([0, 1, 2, 3, 10**12])),
        edit_description(labels_sha256=None),
        edit_description(resolution=10**9),
        npz,
        fortran_order,
        fifo("images.npy"),
        fifo("labels.npy"),
        fifo("dataset.json"),
    ],
)
def test_stores_that_would_hang_or_exhaust_memory_are_refused(tmp_path, damage):
    make_store(tmp_path / "store", 5, labelled=True)
    damage(tmp_path / "store")
    with refused(tmp_path / "store"):
        ImageStore.open(tmp_path / "store")


@pytest.mark.parametrize("label", [-1, 1 << 20, 1 << 40])
def test_labels_that_could_not_be_read_back_are_not_written(tmp_path, label):
    with refused(label, parameter="labels"), writer_for(tmp_path / "store", labelled=True) as writer:
        writer.append(images_of(1), np.array([label]))
    assert not (tmp_path / "store").exists()


@given(st.lists(st.binary(min_size=4, max_size=4), max_size=30))
def test_duplicates_point_to_the_first_copy(contents):
    expected = [(contents.index(data), index) for index, data in enumerate(contents) if data in contents[:index]]
    assert find_duplicates(np.frombuffer(b"".join(contents), np.uint8).reshape(-1, 1, 2, 2)) == expected


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("reader") / "store", 3000, resolution=16, channels=3)


@pytest.mark.parametrize("mapped_bytes", [0, 1 << 28])
def test_threads_may_read_at_once(store, monkeypatch, mapped_bytes):
    monkeypatch.setattr(vitgan.data.store, "MAPPED_BYTES", mapped_bytes)
    parts = [np.random.default_rng(seed).permutation(3000) for seed in range(8)]
    with ThreadPoolExecutor() as pool:
        for part, images in zip(parts, pool.map(store.read, parts), strict=True):
            assert np.array_equal(images, store.images[part])


@pytest.mark.parametrize("mapped_bytes", [0, 1 << 28])
def test_a_store_that_is_replaced_is_read_as_it_was_opened(tmp_path, monkeypatch, mapped_bytes):
    monkeypatch.setattr(vitgan.data.store, "MAPPED_BYTES", mapped_bytes)
    opened = make_store(tmp_path / "store", 5)
    opened.path.rename(tmp_path / "old")
    make_store(tmp_path / "store", 5, resolution=4)
    assert image_numbers(opened.read(np.arange(5))) == list(range(5))


def test_a_file_that_is_cut_off_while_it_is_read_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(vitgan.data.store, "MAPPED_BYTES", 0)
    store = make_store(tmp_path / "store", 5)
    os.truncate(store.path / "images.npy", store.images.offset + 70)
    with pytest.raises(UserError):
        store.read(np.arange(5))


MILLIONS = """
    import json, sys
    from contextlib import closing
    from pathlib import Path
    import numpy as np
    from vitgan.data.store import DatasetDescription, ImageStore
    from vitgan.data.stream import ImageStream

    path, count = Path(sys.argv[1]), 3_000_000
    np.lib.format.open_memmap(path / "images.npy", mode="w+", dtype=np.uint8, shape=(count, 3, 64, 64)).flush()
    DatasetDescription(source="test", resolution=64, channels=3, count=count, sha256="0" * 64).write(path)

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    stream, largest = ImageStream(ImageStore.open(path), 128, seed=0), 0
    with closing(stream.batches(count - 12_800)) as batches:  # across the end of an epoch
        for _ in range(200):
            images, _ = next(batches)
            largest = max(largest, resident())
    assert images.shape == (128, 3, 64, 64)
    print(json.dumps({"resident": largest, "allocated": (path / "images.npy").stat().st_blocks * 512}))
"""


def test_three_million_images_stream_in_little_memory(tmp_path):
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MILLIONS), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    seen = json.loads(result.stdout)
    assert seen["allocated"] < 10_000_000  # the file is sparse: nothing was read into being
    assert seen["resident"] < 500_000_000  # a plain memory map is at 980 MB by then, and growing


def test_a_disk_that_fills_up_at_the_end_leaves_the_old_store(tmp_path):
    """The images are on the disk already, their description is not."""
    make_store(tmp_path / "store", 3, labelled=True)
    images = np.arange(250, dtype="<u4").view(np.uint8).reshape(250, 1, 2, 2)  # fewer than a file buffers
    with (
        refused(tmp_path / "store"),
        StoreWriter(tmp_path / "store", resolution=2, channels=1, labelled=True, overwrite=True) as writer,
    ):
        writer.append(images, np.zeros(250, np.int64))
        with files_of_at_most(200):
            writer.finish(source="test")
    assert len(ImageStore.open(tmp_path / "store")) == 3
    assert sorted(file.name for file in tmp_path.iterdir()) == [".store.partial", "store"]  # to go on with


def test_a_description_that_could_not_be_read_back_replaces_nothing(tmp_path):
    make_store(tmp_path / "store", 3, labelled=True)
    with refused("dataset.json"), writer_for(tmp_path / "store", labelled=True, overwrite=True) as writer:
        writer.append(images_of(2), np.arange(2))
        writer.finish(source="test", label_names=["a" * (1 << 24), "b"])
    assert len(ImageStore.open(tmp_path / "store")) == 3


def test_work_that_only_its_place_was_missing_for_is_kept(tmp_path):
    path = tmp_path / "store"
    with refused(path, parameter="overwrite"), writer_for(path, fingerprint="a") as writer:
        writer.append(images_of(5))
        make_store(tmp_path / "other", 3).path.rename(path)
        writer.finish(source="test")
    with writer_for(path, fingerprint="a", overwrite=True) as writer:
        assert writer.count == 5
        store = writer.finish(source="test")
    assert np.array_equal(store.images, images_of(5))


def test_what_an_older_version_left_half_made_is_named_and_left_alone(tmp_path):
    partial = partial_folder(tmp_path / "store")
    partial.mkdir()
    names = ["images.npy", "journal.jsonl", "rows.bin"]
    for name in names:
        (partial / name).write_text(name)
    with refused(partial, "journal.jsonl, rows.bin"):
        writer_for(tmp_path / "store")
    assert {file.name: file.read_text() for file in partial.iterdir()} == {name: name for name in names}


def test_long_names_of_classes_stay_apart(tmp_path):
    names = ["x" * 600 + "a", "x" * 600 + "b"]
    with writer_for(tmp_path / "store", labelled=True) as writer:
        writer.append(images_of(2), np.arange(2))
        store = writer.finish(source="test", label_names=names)
    assert store.description.label_names == names
    assert ImageStore.open(store.path).description.label_names == names


def test_a_disk_that_takes_no_advice_is_read(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError("not supported")

    monkeypatch.setattr(vitgan.data.store, "MAPPED_BYTES", 0)
    monkeypatch.setattr(os, "posix_fadvise", refuse)
    assert image_numbers(make_store(tmp_path / "store", 5).read(np.arange(5))) == list(range(5))
