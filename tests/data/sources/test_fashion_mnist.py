import gzip
import hashlib
import struct

import numpy as np
import pytest

from data.samples import random_pixels
from refusals import refused
from vitgan.data.prepare import prepare
from vitgan.data.sources.fashion_mnist import FashionMnist, download_fashion_mnist, read_idx


def write_idx(file, array):
    """The format's definition: two zeros, the type (8: unsigned byte), the number of dimensions, their sizes."""
    data = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_images_and_labels_of_a_split(tmp_path, suffix):
    images = np.stack([random_pixels(number, 28, 28, 1) for number in range(5)])
    for prefix, part in (("train", images), ("t10k", images[:2])):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{suffix}", part)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{suffix}", np.arange(len(part), dtype=np.uint8))
    store = prepare(FashionMnist(tmp_path), tmp_path / "store")
    assert np.array_equal(store.images[:, 0], np.pad(images, ((0, 0), (2, 2), (2, 2))))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 1, 2, 3, 4]
    assert store.description.split == "train"
    test = FashionMnist(tmp_path, "test")
    assert len(test) == 2
    own_size = prepare(test, tmp_path / "own", resolution=28)
    assert np.array_equal(own_size.images[:, 0], images[:2])


def test_other_sizes_resize(tmp_path):
    store = prepare(FashionMnist(), tmp_path / "store", resolution=16, max_images=20)
    assert store.images.shape == (20, 1, 16, 16)
    assert "Lanczos" in store.description.framing


@pytest.mark.parametrize(
    ("data", "facts", "cause"),
    [
        (b"", [], type(None)),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x01abcd", [], type(None)),
        (b"\x00\x00\x08\x01\x00\x00\x00\x05abcd", ["(5,)", 4], type(None)),
        (b"\x00\x00\x08\x03\x00\x00\x00\x05", [], type(None)),
        (gzip.compress(b"\x00\x00\x08\x01\x00\x00\x00\x04abcd")[:-9], [], EOFError),
    ],
    ids=["empty", "kind", "count", "shape", "cut"],  # of gzip's bytes a second is part: workers would differ
)
def test_damaged_files_are_refused(tmp_path, data, facts, cause):
    (tmp_path / "file").write_bytes(data)
    with refused(tmp_path / "file", *facts, cause=cause):
        read_idx(tmp_path / "file")


def test_missing_files_are_named(tmp_path):
    with refused(tmp_path, "train-images-idx3-ubyte"):
        FashionMnist(tmp_path)


def test_a_split_is_downloaded_and_checked(tmp_path, file_server):
    images = np.stack([random_pixels(number, 28, 28, 1) for number in range(3)])
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", np.arange(3, dtype=np.uint8))
    files = {f"/data/{file.name}": file.read_bytes() for file in tmp_path.glob("*.gz")}
    checksums = {name.rsplit("/", 1)[1]: "md5:" + hashlib.md5(data).hexdigest() for name, data in files.items()}
    server = file_server(files)
    folder = download_fashion_mnist("train", f"{server.url}/data", checksums)
    assert np.array_equal(np.stack([FashionMnist(folder).read(index) for index in range(3)]), images)
    with refused(f"{server.url}/data/train-images-idx3-ubyte.gz"):
        download_fashion_mnist("train", f"{server.url}/data")


def test_labels_that_are_none_of_its_classes_are_refused(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((3, 28, 28), np.uint8))
    write_idx(tmp_path / "train-labels-idx1-ubyte", np.array([0, 10, 1], np.uint8))
    with refused(tmp_path, 0, 9):
        FashionMnist(tmp_path)
