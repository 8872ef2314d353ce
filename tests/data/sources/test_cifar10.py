import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from refusals import refused
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.sources.cifar10 import BATCHES, LABEL_NAMES, Cifar10, load_pickle
from vitgan.data.store import ImageStore

ROWS = 7


def rows_of(number):
    generator = np.random.default_rng(number)
    return generator.integers(0, 256, (ROWS, 3072), dtype=np.uint8), generator.integers(0, 10, ROWS).tolist()


def python_batches():
    """As the site has them: Python 2 pickles of a dict with byte keys."""
    files = {}
    for number, name in enumerate(BATCHES["all"]):
        data, labels = rows_of(number)
        batch = {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": [b"x.png"] * ROWS}
        files[f"cifar-10-batches-py/{name}"] = pickle.dumps(batch, protocol=2)
    files["cifar-10-batches-py/batches.meta"] = pickle.dumps({b"label_names": LABEL_NAMES}, protocol=2)
    return files


def binary_batches():
    """One label byte, then 1,024 bytes of red, green and blue, row by row."""
    files = {"cifar-10-batches-bin/batches.meta.txt": "\n".join(LABEL_NAMES).encode()}
    for number, name in enumerate(BATCHES["all"]):
        data, labels = rows_of(number)
        files[f"cifar-10-batches-bin/{name}.bin"] = b"".join(
            bytes([label]) + row.tobytes() for label, row in zip(labels, data, strict=True)
        )
    return files


def write_tarball(path, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_folder(path, files):
    for name, data in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


@pytest.mark.parametrize("make", [python_batches, binary_batches])
@pytest.mark.parametrize("write", [write_tarball, write_folder])
@pytest.mark.parametrize("split", ["train", "test", "all"])
def test_every_format_is_pixel_equal(tmp_path, make, write, split):
    path = write(tmp_path / "cifar", make())
    store = prepare(Cifar10(path, split), tmp_path / "store")
    numbers = {"train": range(5), "test": [5], "all": range(6)}[split]
    assert np.array_equal(store.images, np.concatenate([rows_of(n)[0].reshape(-1, 3, 32, 32) for n in numbers]))
    assert store.labels is not None
    assert store.labels.tolist() == [label for number in numbers for label in rows_of(number)[1]]
    assert store.description.label_names == LABEL_NAMES
    assert store.description.split == split


def test_the_extracted_folder_itself(tmp_path):
    write_folder(tmp_path, python_batches())
    assert len(Cifar10(tmp_path / "cifar-10-batches-py")) == 5 * ROWS


class Evil:
    def __reduce__(self):
        return os.system, ("echo harm",)


@pytest.mark.parametrize("harm", [Evil(), {b"data": Evil()}, np.array([Evil()], object), print])
def test_pickles_that_would_run_code_are_refused(harm):
    with refused(kind=pickle.UnpicklingError):
        load_pickle(pickle.dumps(harm))


def test_a_harmful_batch_is_one_line(tmp_path):
    files = python_batches() | {"cifar-10-batches-py/data_batch_3": pickle.dumps({b"data": Evil(), b"labels": []})}
    with refused("data_batch_3", tmp_path, "system", cause=pickle.UnpicklingError):
        Cifar10(write_folder(tmp_path, files))


@pytest.mark.parametrize(
    ("batch", "cause", "facts"),
    [
        (None, type(None), []),
        (b"", Exception, []),
        (b"\x80\x02nonsense", Exception, []),
        (pickle.dumps([1, 2]), TypeError, []),
        (pickle.dumps({b"labels": [1]}), KeyError, []),
        (pickle.dumps({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}), ValueError, ["(2, 3072)", 1]),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.float32), b"labels": [1]}), ValueError, ["float32"]),
        (pickle.dumps({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}), ValueError, [0, 9]),
    ],
)
def test_damaged_batches_are_one_line(tmp_path, batch, cause, facts):
    files = python_batches()
    if batch is None:
        del files["cifar-10-batches-py/test_batch"]
    else:
        files["cifar-10-batches-py/test_batch"] = batch
    write_folder(tmp_path, files)
    with refused("test_batch", tmp_path, *facts, cause=cause):
        Cifar10(tmp_path, "test")


def test_a_binary_batch_of_odd_length(tmp_path):
    files = binary_batches()
    files["cifar-10-batches-bin/test_batch.bin"] += b"x"
    with refused("test_batch", tmp_path, cause=ValueError):
        Cifar10(write_folder(tmp_path, files), "test")


def test_downloaded_once_and_checked(tmp_path, file_server):
    tarball = write_tarball(tmp_path / "cifar-10-python.tar.gz", python_batches())
    server = file_server({"/cifar-10-python.tar.gz": tarball.read_bytes()})
    checksum = "md5:" + hashlib.md5(tarball.read_bytes()).hexdigest()
    words = ["data", "cifar10", "--url", f"{server.url}/cifar-10-python.tar.gz", "--split", "test", "--out"]
    for number in range(2):
        dispatch([*words, str(tmp_path / f"store{number}"), "--checksum", checksum])
        assert len(ImageStore.open(tmp_path / f"store{number}")) == ROWS
    assert len(server.requests) == 1
    with refused(f"{server.url}/cifar-10-python.tar.gz"):
        dispatch([*words, str(tmp_path / "other")])  # the checksum of the data set itself
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("make", [python_batches, binary_batches])
def test_a_batch_that_lacks_images_is_listed(tmp_path, monkeypatch, make):
    monkeypatch.setattr("vitgan.data.sources.cifar10.BATCH_IMAGES", ROWS)
    files = make()
    write_folder(tmp_path, files)
    assert Cifar10(tmp_path).refused == []
    name = next(name for name in files if "data_batch_2" in name)
    data, labels = rows_of(1)
    short = pickle.dumps({b"data": data[:-1], b"labels": labels[:-1]})
    (tmp_path / name).write_bytes(short if make is python_batches else files[name][:-3073])
    source = Cifar10(tmp_path)
    assert len(source) == 5 * ROWS - 1
    assert len(source.refused) == 1
    assert "data_batch_2" in source.refused[0][0]
