import gzip
import multiprocessing

import numpy as np

from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.sources.fashion_mnist import bundled_folder
from vitgan.data.store import ImageStore


def test_bundled_images_are_the_files_own_with_a_black_border(tmp_path):
    store = bundled_fashion_mnist(tmp_path)
    raw = gzip.decompress((bundled_folder() / "t10k-images-idx3-ubyte.gz").read_bytes())
    images = np.frombuffer(raw[16:], np.uint8).reshape(10_000, 28, 28)
    assert np.array_equal(store.images[:, 0, 2:30, 2:30], images)
    assert int(np.asarray(store.images).sum(dtype=np.int64)) == int(images.sum(dtype=np.int64))
    raw_labels = gzip.decompress((bundled_folder() / "t10k-labels-idx1-ubyte.gz").read_bytes())
    assert store.labels is not None
    assert store.labels.tolist() == list(raw_labels[8:])
    assert store.description.label_names is not None
    assert store.description.label_names[9] == "Ankle boot"
    assert "MIT" in store.description.licence
    assert "Permission is hereby granted" in (bundled_folder() / "LICENSE").read_text()


def test_the_second_call_opens_the_same_store(tmp_path):
    first = bundled_fashion_mnist(tmp_path)
    written = (first.path / "images.npy").stat().st_mtime_ns
    assert (bundled_fashion_mnist(tmp_path).path / "images.npy").stat().st_mtime_ns == written


def test_a_damaged_cached_store_is_made_anew(tmp_path):
    path = bundled_fashion_mnist(tmp_path).path
    (path / "images.npy").unlink()
    assert len(bundled_fashion_mnist(tmp_path)) == 10_000


def test_processes_that_ask_at_once_all_get_it(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=bundled_fashion_mnist, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    ImageStore.open(tmp_path / "fashion-mnist-bundled-32").verify()
