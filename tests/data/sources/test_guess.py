"""Which source is guessed for what people have on their disks."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data.samples import encoded, random_pixels, write_image
from data.sources.test_cifar10 import python_batches, write_folder, write_tarball
from refusals import refused
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.sources.cifar10 import Cifar10
from vitgan.data.sources.fashion_mnist import FashionMnist, bundled_folder
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.guess import guess_source
from vitgan.data.sources.parquet import ParquetImages
from vitgan.errors import UserError


def labelled_table(place: Path) -> Path:
    rows = [{"image": encoded(random_pixels(number)), "label": number} for number in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), place / "labelled.parquet")
    return place / "labelled.parquet"


def photos(place: Path) -> Path:
    for number in range(2):
        write_image(place / "photos" / f"{number}.png", number)
    return place / "photos"


def table(place: Path) -> Path:
    (place / "set" / "data").mkdir(parents=True)
    rows = [{"image": {"bytes": encoded(random_pixels(number)), "path": None}} for number in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), place / "set" / "data" / "train-00000-of-00001.parquet")
    return place / "set"


SOURCES = {
    "photos": (photos, ImageFolder),
    "parquet": (table, ParquetImages),
    "parquet file": (lambda place: next(table(place).rglob("*.parquet")), ParquetImages),
    "cifar archive": (lambda place: write_tarball(place / "cifar-10-python.tar.gz", python_batches()), Cifar10),
    "cifar folder": (lambda place: write_folder(place, python_batches()), Cifar10),
    "cifar batches": (lambda place: write_folder(place, python_batches()) / "cifar-10-batches-py", Cifar10),
}


@pytest.mark.parametrize("name", SOURCES)
def test_what_is_there_is_known_by_its_names(tmp_path: Path, name: str) -> None:
    make, expected = SOURCES[name]
    assert type(guess_source(make(tmp_path))) is expected


def test_idx_files_are_fashion_mnist(tmp_path: Path) -> None:
    for file in bundled_folder().glob("t10k*"):
        (tmp_path / file.name.replace("t10k", "train")).write_bytes(file.read_bytes())
    source = guess_source(tmp_path)
    assert isinstance(source, FashionMnist)
    assert len(source) == len(bundled_fashion_mnist())


def test_own_images_take_a_split_and_a_known_data_set_does_not(tmp_path: Path) -> None:
    write_image(tmp_path / "mine" / "train" / "a.png", 1)
    write_image(tmp_path / "mine" / "test" / "a.png", 2)
    assert guess_source(tmp_path / "mine", "test").split == "test"
    cifar = write_tarball(tmp_path / "cifar-10-python.tar.gz", python_batches())
    with pytest.raises(UserError) as error:
        guess_source(cifar, "test")
    assert error.value.parameter == "split"
    with pytest.raises(UserError):
        guess_source(tmp_path / "nothing")


@pytest.mark.parametrize("source", ["file", "hub"])
def test_labels_of_parquet_files_are_taken_or_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    file = labelled_table(tmp_path)
    fetched = []
    monkeypatch.setattr("vitgan.data.sources.guess.fetch_data_set", lambda name: fetched.append(name) or file)
    path = file if source == "file" else "hf://someone/pets"
    labels = guess_source(path).labels
    assert labels is not None
    assert labels.tolist() == [0, 1]
    without = guess_source(path, labels="none")
    assert (without.labels, len(without)) == (None, 2)
    count = len(fetched)
    for other in ("nosuchtable.csv", "folders"):
        with refused(path, other, "vitgan data parquet --label-column", parameter="labels"):
            guess_source(path, labels=other)
    assert len(fetched) == count
