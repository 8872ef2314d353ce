"""CIFAR-100 in both formats of its home page, made here: the images, both kinds of labels, and damage."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest

from data.sources.test_cifar10 import Evil, write_folder, write_tarball
from refusals import refused
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.sources.cifar100 import CLASSES, Cifar100, LabelKind, Split
from vitgan.data.sources.guess import guess_source
from vitgan.data.store import ImageStore
from vitgan.errors import UserError

ROWS = 5
NAMES = {kind: [f"{kind}{number}" for number in range(count)] for kind, count in CLASSES.items()}


def rows_of(part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    generator = np.random.default_rng(len(part))
    images = generator.integers(0, 256, (ROWS, 3072), dtype=np.uint8)
    return images, {kind: generator.integers(0, count, ROWS) for kind, count in CLASSES.items()}


def python_files() -> dict[str, bytes]:
    files = {}
    for part in ("train", "test"):
        images, labels = rows_of(part)
        batch = {b"data": images} | {f"{kind}_labels".encode(): values.tolist() for kind, values in labels.items()}
        files[f"cifar-100-python/{part}"] = pickle.dumps(batch, protocol=2)
    meta = {f"{kind}_label_names".encode(): [name.encode() for name in names] for kind, names in NAMES.items()}
    return files | {"cifar-100-python/meta": pickle.dumps(meta, protocol=2)}


def binary_files() -> dict[str, bytes]:
    """The coarse label's byte, the fine one's, then 3,072 bytes of pixels."""
    files = {f"cifar-100-binary/{kind}_label_names.txt": "\n".join(names).encode() for kind, names in NAMES.items()}
    for part in ("train", "test"):
        images, labels = rows_of(part)
        rows = zip(labels["coarse"].tolist(), labels["fine"].tolist(), images, strict=True)
        files[f"cifar-100-binary/{part}.bin"] = b"".join(bytes([c, f]) + row.tobytes() for c, f, row in rows)
    return files


@pytest.mark.parametrize("make", [python_files, binary_files])
@pytest.mark.parametrize("write", [write_tarball, write_folder])
@pytest.mark.parametrize("split", ["train", "test", "all"])
@pytest.mark.parametrize("labels", ["fine", "coarse"])
def test_images_labels_and_names_are_the_files_own(
    tmp_path: Path, make, write, split: Split, labels: LabelKind
) -> None:
    source = Cifar100(write(tmp_path / "cifar-100-x", make()), split, labels)
    store = prepare(source, tmp_path / "store")
    parts = [rows_of(part) for part in (("train", "test") if split == "all" else (split,))]
    assert np.array_equal(store.images, np.concatenate([images.reshape(-1, 3, 32, 32) for images, _ in parts]))
    assert store.labels is not None
    assert np.array_equal(store.labels, np.concatenate([values[labels] for _, values in parts]))
    assert store.description.label_names == NAMES[labels]
    assert store.description.split == split


@pytest.mark.parametrize("file", ["train", "meta"])
@pytest.mark.parametrize(
    "content",
    [None, b"", b"\x80\x02x", pickle.dumps({b"data": Evil()}), pickle.dumps({b"fine_label_names": [b"one"]})],
)
def test_damage_is_one_line(tmp_path: Path, file: str, content: bytes | None) -> None:
    files = python_files()
    if content is None:
        del files[f"cifar-100-python/{file}"]
    else:
        files[f"cifar-100-python/{file}"] = content
    folder = write_folder(tmp_path, files)
    with refused(folder, "fine_label_names.txt" if content is None and file == "meta" else file):
        Cifar100(folder)


def test_labels_beyond_the_classes_are_refused(tmp_path: Path) -> None:
    files = binary_files()
    files["cifar-100-binary/train.bin"] = bytes([19, 100]) + bytes(3072)
    write_folder(tmp_path, files)
    assert len(Cifar100(tmp_path, labels="coarse")) == 1
    with pytest.raises(UserError):
        Cifar100(tmp_path)


def test_the_command_and_the_guess_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = write_tarball(tmp_path / "cifar-100-python.tar.gz", python_files())
    assert isinstance(guess_source(archive), Cifar100)
    words = ["--source", str(archive), "--labels", "coarse", "--split", "test", "--out", str(tmp_path / "store")]
    dispatch(["data", "cifar100", *words])
    assert ImageStore.open(tmp_path / "store").description.label_names == NAMES["coarse"]
    capsys.readouterr()


def test_it_is_downloaded_and_checked(tmp_path: Path, file_server) -> None:
    tarball = write_tarball(tmp_path / "cifar-100-python.tar.gz", python_files())
    server = file_server({"/cifar-100-python.tar.gz": tarball.read_bytes()})
    words = ["data", "cifar100", "--url", f"{server.url}/cifar-100-python.tar.gz", "--out", str(tmp_path / "store")]
    with refused(f"{server.url}/cifar-100-python.tar.gz"):
        dispatch(words)  # the checksum of the data set itself
    dispatch([*words, "--checksum", "md5:" + hashlib.md5(tarball.read_bytes()).hexdigest()])
    assert len(ImageStore.open(tmp_path / "store")) == ROWS
