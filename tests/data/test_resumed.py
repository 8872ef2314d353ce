"""A preparation that was killed is gone on with only if nothing changed: not the source, no option, no byte written."""

import hashlib
import json
import os
import shutil
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitgan.data.workers
from data.samples import PngSource, encoded, random_pixels
from refusals import refused
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Source
from vitgan.data.writer import PROGRESS, partial_folder

COUNT, KEPT = 24, 16


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch):
    monkeypatch.setattr(vitgan.data.workers, "LARGEST_PART", 8)


def write_folder(folder: Path, first_seed: int = 0) -> Path:
    """Two classes of BMPs, all of one size in bytes; the names do not depend on the seed."""
    for number in range(COUNT):
        file = folder / f"class{number % 2}" / f"{number}.bmp"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encoded(random_pixels(first_seed + number), "BMP"))
    return folder


def write_zip(path: Path, first_seed: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(COUNT):
            archive.writestr(f"{number}.bmp", encoded(random_pixels(first_seed + number), "BMP"))
        archive.writestr("dataset.json", json.dumps({"labels": [[f"{n}.bmp", n % 3] for n in range(COUNT)]}))
    return path


def prepare_and_stop(source: Source, store: Path, **options: Any) -> None:
    """Ends as by Ctrl-C, with the work so far left beside `store`."""

    def stop(done: int, total: int) -> None:
        if done == KEPT:
            raise KeyboardInterrupt

    with suppress(KeyboardInterrupt):
        prepare(source, store, resolution=8, workers=0, on_progress=stop, **options)
    assert json.loads((partial_folder(store) / PROGRESS).read_bytes().partition(b" ")[2])["count"] == KEPT


def go_on(source: Source, store: Path, **options: Any) -> tuple[list[str], int]:
    """What is said, and how many images are read."""
    notices, reads = [], []
    read = type(source).read

    class Watched(type(source)):
        def read(self, index):
            reads.append(index)
            return read(self, index)

    source.__class__ = Watched
    prepare(source, store, resolution=8, workers=0, on_notice=notices.append, **options)
    return notices, len(reads)


def content(store: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in store.iterdir()}


def check_anew(source: Source, again: Source, store: Path, **options: Any) -> None:
    """Nothing of what was left is in the store, and that is said."""
    notices, reads = go_on(source, store, **options)
    assert reads == COUNT
    assert len(notices) == 1
    assert str(store) in notices[0]
    other = prepare(again, store.with_name("other"), resolution=8, workers=0, **options)
    assert content(store) == content(other.path)


def test_without_a_change_it_goes_on(tmp_path):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    prepare_and_stop(ImageFolder(images), store)
    notices, reads = go_on(ImageFolder(images), store)
    assert reads == COUNT - KEPT
    assert len(notices) == 1
    assert f" {KEPT} " in notices[0]
    assert content(store) == content(prepare(ImageFolder(images), tmp_path / "other", resolution=8, workers=0).path)


def test_a_first_preparation_says_nothing(tmp_path):
    assert go_on(ImageFolder(write_folder(tmp_path / "images")), tmp_path / "store")[0] == []


def another_folder(images):
    shutil.move(images, images.with_name("old"))
    write_folder(images, first_seed=100)


def one_corrected_image(images):
    """Of the same size, and its time set back."""
    file = images / "class1" / "1.bmp"
    before = file.stat()
    file.write_bytes(encoded(random_pixels(999), "BMP"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def one_replaced_image(images):
    file = images / "class0" / "0.bmp"
    file.with_suffix(".new").write_bytes(encoded(random_pixels(999), "BMP"))
    file.with_suffix(".new").replace(file)


def another_class_folder(images):
    (images / "class0").rename(images / "another")


@pytest.mark.parametrize("change", [another_folder, one_corrected_image, one_replaced_image, another_class_folder])
def test_a_changed_folder_is_prepared_anew(tmp_path, change):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    prepare_and_stop(ImageFolder(images), store)
    change(images)
    check_anew(ImageFolder(images), ImageFolder(images), store)


def test_another_source_of_the_same_names_is_prepared_anew(tmp_path):
    prepare_and_stop(ImageFolder(write_folder(tmp_path / "a")), tmp_path / "store")
    other = write_folder(tmp_path / "b", first_seed=100)
    check_anew(ImageFolder(other), ImageFolder(other), tmp_path / "store")


class NamedSource(PngSource):
    """Without files: nothing but their names tells its images from others."""

    def __init__(self, first: int) -> None:
        super().__init__(COUNT)
        self.first = first

    def name(self, index: int) -> str:
        return f"{self.first + index}.png"

    def read(self, index: int) -> bytes:
        return encoded(random_pixels(self.first + index))


def test_other_names_are_prepared_anew(tmp_path):
    prepare_and_stop(NamedSource(0), tmp_path / "store")
    check_anew(NamedSource(100), NamedSource(100), tmp_path / "store")


def array_source(first_seed: int = 0) -> PythonImages:
    images = np.stack([random_pixels(first_seed + number) for number in range(COUNT)])
    return PythonImages((images, np.zeros(COUNT, np.int64)))


def test_other_pixels_in_memory_are_prepared_anew(tmp_path):
    prepare_and_stop(array_source(), tmp_path / "store")
    check_anew(array_source(100), array_source(100), tmp_path / "store")


def test_the_same_pixels_in_memory_are_gone_on_with(tmp_path):
    prepare_and_stop(array_source(), tmp_path / "store")
    assert go_on(array_source(), tmp_path / "store")[1] == COUNT - KEPT


def test_a_changed_archive_is_prepared_anew(tmp_path):
    path = write_zip(tmp_path / "images.zip")
    prepare_and_stop(ImageFolder(path), tmp_path / "store")
    before = path.stat()
    write_zip(path, first_seed=100)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    check_anew(ImageFolder(path), ImageFolder(path), tmp_path / "store")


def test_corrected_labels_are_taken(tmp_path):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    names = [f"class{number % 2}/{number}.bmp" for number in range(COUNT)]
    (images / "dataset.json").write_text(json.dumps({"labels": [[name, n % 2] for n, name in enumerate(names)]}))
    prepare_and_stop(ImageFolder(images), store)
    (images / "dataset.json").write_text(json.dumps({"labels": [[name, n % 3] for n, name in enumerate(names)]}))
    check_anew(ImageFolder(images), ImageFolder(images), store)
    assert set(np.load(store / "labels.npy").tolist()) == {0, 1, 2}


@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        ({}, {"labels": "none"}, {}),
        ({"labels": "none"}, {}, {}),
        ({}, {}, {"strict": True}),
        ({}, {}, {"background": "#000000"}),
        ({}, {}, {"crop": 4}),
        ({}, {}, {"channels": 1}),
    ],
)
def test_other_options_are_heeded(tmp_path, before, after, options):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    prepare_and_stop(ImageFolder(images, **before), store)
    check_anew(ImageFolder(images, **after), ImageFolder(images, **after), store, **options)


def test_strict_refuses_what_was_skipped_before(tmp_path):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    (images / "class0" / "0.bmp").write_bytes(b"")
    with suppress(KeyboardInterrupt):
        prepare(ImageFolder(images), store, resolution=8, workers=0, on_progress=lambda *_: _interrupt())
    with refused("class0/0.bmp", parameter="strict"):
        prepare(ImageFolder(images), store, resolution=8, workers=0, strict=True)


def _interrupt() -> None:
    raise KeyboardInterrupt


def changed(signed: bool = False, **changes: Any):
    """What is written down of the progress; `signed` as whoever knows the format would."""

    def change(partial: Path) -> None:
        digest, _, text = (partial / PROGRESS).read_text().partition(" ")
        text = json.dumps(json.loads(text) | changes, separators=(",", ":"))
        digest = hashlib.sha256(text.encode()).hexdigest() if signed else digest
        (partial / PROGRESS).write_text(f"{digest} {text}")

    return change


def zeroed(name: str):
    def change(partial: Path) -> None:
        data = (partial / name).read_bytes()
        (partial / name).write_bytes(data[:-10] + bytes(10))

    return change


def cut(name: str):
    return lambda partial: os.truncate(partial / name, (partial / name).stat().st_size - KEPT * 8)


def removed(name: str):
    return lambda partial: (partial / name).unlink()


def fifo(name: str):
    def change(partial: Path) -> None:
        (partial / name).unlink()
        os.mkfifo(partial / name)

    return change


@pytest.mark.parametrize(
    "damage",
    [
        *(kind(name) for kind in (zeroed, cut, removed, fifo) for name in ("images.npy", "labels.npy", PROGRESS)),
        *(changed(signed, count=count) for signed in (False, True) for count in (-1, KEPT - 1, KEPT + 1, "x", 10**30)),
        *(
            changed(signed, sha256=digests)
            for signed in (False, True)
            for digests in ({}, None, {"images.npy": "0" * 64})
        ),
        *(changed(skipped=skipped) for skipped in (None, [5], [{"name": "x", "reason": "y"}])),
        *(changed(signed=True, skipped=skipped) for skipped in (None, 5, [5])),
        *(changed(converted=converted) for converted in (None, [], {"x": "y"}, {"enlarged": 10**6})),
        changed(signed=True, more=1),
        *(
            lambda partial, data=data: (partial / PROGRESS).write_bytes(data)
            for data in (b"", b"null", b"[" * 100_000, b"\xff\xfe{", bytes(1 << 20), bytes(1 << 25))
        ),
    ],
)
def test_damage_to_what_is_kept_is_noticed(tmp_path, damage):
    """It is not gone on with."""
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    prepare_and_stop(ImageFolder(images), store)
    damage(partial_folder(store))
    notices, reads = go_on(ImageFolder(images), store)
    assert reads == COUNT
    assert len(notices) == 1
    assert content(store) == content(prepare(ImageFolder(images), tmp_path / "other", resolution=8, workers=0).path)


def test_first_images_that_were_all_skipped(tmp_path):
    images, store = write_folder(tmp_path / "images"), tmp_path / "store"
    for number in range(KEPT):
        (images / f"class{number % 2}" / f"{number}.bmp").write_bytes(b"")
    with suppress(KeyboardInterrupt):
        prepare(ImageFolder(images), store, resolution=8, workers=0, on_progress=lambda *_: _interrupt())
    notices, reads = go_on(ImageFolder(images), store)
    assert reads < COUNT or len(notices) == 1
    assert content(store) == content(prepare(ImageFolder(images), tmp_path / "other", resolution=8, workers=0).path)
