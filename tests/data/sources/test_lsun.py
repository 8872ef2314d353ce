import pickle

import lmdb
import numpy as np
import pytest

from data.samples import encoded, random_pixels
from refusals import refused
from vitgan.data.prepare import prepare
from vitgan.data.sources.lsun import Lsun


def write_lmdb(path, count, size=16):
    """As LSUN's own: keys are hex digests, values encoded images; returns the pixels in order of the keys."""
    path.mkdir(parents=True)
    pixels = {}
    with lmdb.open(str(path), map_size=1 << 28) as environment, environment.begin(write=True) as transaction:
        for number in range(count):
            key = b"%040x" % (number * 7919 % 1_000_003)
            pixels[key] = random_pixels(number, size, size)
            kind = {"kind": "WEBP", "lossless": True} if number % 2 else {"kind": "PNG"}
            transaction.put(key, encoded(pixels[key], **kind))
    (path / "lock.mdb").unlink()
    return [pixels[key] for key in sorted(pixels)]


@pytest.mark.parametrize("workers", [0, 2])
def test_images_come_in_the_order_of_the_keys(tmp_path, workers):
    pixels = write_lmdb(tmp_path / "bedroom_train_lmdb", 700)
    source = Lsun(tmp_path / "bedroom_train_lmdb")
    store = prepare(source, tmp_path / "store", resolution=16, workers=workers)
    assert np.array_equal(store.images, np.stack(pixels).transpose(0, 3, 1, 2))
    assert store.labels is None


def test_any_order_in_a_copy(tmp_path):
    write_lmdb(tmp_path / "db", 600, size=2)
    source = Lsun(tmp_path / "db")
    in_order = [source.read(index) for index in range(600)]
    copy = pickle.loads(pickle.dumps(source))
    for index in np.random.default_rng(0).permutation(600).tolist():
        assert copy.read(index) == in_order[index]


def test_a_folder_with_several_databases(tmp_path):
    write_lmdb(tmp_path / "bedroom_train_lmdb", 3)
    write_lmdb(tmp_path / "bedroom_val_lmdb", 2)
    write_lmdb(tmp_path / "church_outdoor_train_lmdb", 1)
    assert len(Lsun(tmp_path)) == 3
    assert len(Lsun(tmp_path, split="val")) == 2
    assert len(Lsun(tmp_path, category="church_outdoor")) == 1
    with refused("bedroom_train_lmdb, bedroom_val_lmdb", parameter="category"):
        Lsun(tmp_path, category="cat")


def test_the_split_is_that_of_the_folder(tmp_path):
    write_lmdb(tmp_path / "bedroom_val_lmdb", 2)
    write_lmdb(tmp_path / "mine", 2)
    assert Lsun(tmp_path / "bedroom_val_lmdb").split == "val"
    assert Lsun(tmp_path / "bedroom_val_lmdb" / "data.mdb").split == "val"
    assert Lsun(tmp_path / "mine").split is None
    with refused("val", parameter="split"):
        Lsun(tmp_path / "bedroom_val_lmdb", split="train")


def test_a_truncated_database_is_refused(tmp_path):
    """Reading behind the end of a mapped file would kill the process."""
    write_lmdb(tmp_path / "db", 50)
    data = (tmp_path / "db" / "data.mdb").read_bytes()
    (tmp_path / "db" / "data.mdb").write_bytes(data[: len(data) // 2])
    with refused(tmp_path / "db" / "data.mdb", f"{len(data) // 2:,}"):
        Lsun(tmp_path / "db")


@pytest.mark.parametrize("content", [b"", b"x" * 10_000])
def test_what_is_no_database_is_refused(tmp_path, content):
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "data.mdb").write_bytes(content)
    with refused(tmp_path / "db" / "data.mdb"):
        Lsun(tmp_path / "db")


def test_missing_zipped_and_empty_databases(tmp_path):
    with refused(tmp_path / "nowhere"):
        Lsun(tmp_path / "nowhere")
    (tmp_path / "bedroom_train_lmdb.zip").write_bytes(b"PK")
    with refused(tmp_path / "bedroom_train_lmdb.zip"):
        Lsun(tmp_path / "bedroom_train_lmdb.zip")
    with refused(tmp_path, "bedroom_train_lmdb", parameter="category"):
        Lsun(tmp_path)
    write_lmdb(tmp_path / "empty", 0)
    with refused(tmp_path / "empty"):
        Lsun(tmp_path / "empty")


META_ENTRIES, META_TRANSACTION = 120, 144  # bytes into the first two pages, by LMDB's struct MDB_meta


def write_in_two_states(path):
    path.mkdir()
    with lmdb.open(str(path)) as environment:
        for part in range(2):
            with environment.begin(write=True) as transaction:
                for number in range(40):
                    transaction.put(b"%d-%04d" % (part, number), encoded(random_pixels(number)))
        return environment.stat()["psize"]


def change_meta(path, page, offset, value):
    data = bytearray((path / "data.mdb").read_bytes())
    data[page + offset : page + offset + 8] = value.to_bytes(8, "little")
    (path / "data.mdb").write_bytes(data)


def test_a_lost_image_is_listed(tmp_path):
    """The number of images that is written down is another than that of the keys."""
    page = write_in_two_states(tmp_path / "db")
    assert Lsun(tmp_path / "db").refused == []
    for number in range(2):
        change_meta(tmp_path / "db", number * page, META_ENTRIES, 81)
    source = Lsun(tmp_path / "db")
    assert len(source) == 80
    assert "announces 81 images and has 80" in source.refused[0][1]


def test_an_older_state_is_not_taken_for_the_database(tmp_path):
    page = write_in_two_states(tmp_path / "db")
    newest = max(range(2), key=lambda n: (tmp_path / "db" / "data.mdb").read_bytes()[n * page + META_TRANSACTION])
    change_meta(tmp_path / "db", newest * page, META_TRANSACTION, 0)
    source = Lsun(tmp_path / "db")
    assert len(source) == 40
    assert [name for name, _ in source.refused] == ["data.mdb"]
    with refused("data.mdb", tmp_path / "db", parameter="strict"):
        prepare(source, tmp_path / "store", resolution=8, strict=True)
