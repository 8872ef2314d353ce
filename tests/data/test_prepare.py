import shutil
from collections import namedtuple
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import pytest

from data.samples import PngSource, random_pixels
from refusals import refused
from vitgan.data.prepare import plan, prepare


def expected_images(numbers):
    return np.stack([random_pixels(number).transpose(2, 0, 1) for number in numbers])


def files_of(store):
    return {file.name: file.read_bytes() for file in store.path.iterdir()}


def test_the_result_does_not_depend_on_the_number_of_workers(tmp_path):
    source = PngSource(900, damaged=frozenset([0, 255, 256, 700]))
    stores = [prepare(source, tmp_path / str(workers), resolution=8, workers=workers) for workers in (0, 1, 3)]
    assert files_of(stores[0]) == files_of(stores[1]) == files_of(stores[2])
    assert len(stores[0]) == 896


def test_unreadable_images_are_skipped_and_listed(tmp_path):
    store = prepare(PngSource(6, damaged=frozenset([1, 4])), tmp_path / "store", resolution=8)
    assert np.array_equal(store.images, expected_images([0, 2, 3, 5]))
    assert store.labels is not None
    assert store.labels.tolist() == [0, 2, 3, 0]
    description = store.description
    assert description.skipped_count == 2
    assert [(entry.name, entry.reason) for entry in description.skipped] == [
        ("1.png", "damaged on purpose"),
        ("4.png", "damaged on purpose"),
    ]


def test_strict_refuses_and_leaves_nothing(tmp_path):
    with refused("4.png", "damaged on purpose", parameter="strict"):
        prepare(PngSource(6, damaged=frozenset([4])), tmp_path / "store", resolution=8, strict=True)
    assert list(tmp_path.iterdir()) == []


def test_the_list_of_skipped_images_is_bounded_and_their_count_is_not(tmp_path):
    store = prepare(PngSource(1501, damaged=frozenset(range(1, 1501))), tmp_path / "store", resolution=8)
    assert len(store) == 1
    assert store.description.skipped_count == 1500
    assert len(store.description.skipped) == 1000


def test_nothing_readable_is_an_error(tmp_path):
    with refused(3, "0.png", "damaged on purpose"):
        prepare(PngSource(3, damaged=frozenset(range(3))), tmp_path / "store", resolution=8)
    assert list(tmp_path.iterdir()) == []


def test_max_images_are_evenly_spaced(tmp_path):
    store = prepare(PngSource(100), tmp_path / "store", resolution=8, max_images=4)
    assert np.array_equal(store.images, expected_images([0, 25, 50, 75]))
    assert plan(PngSource(3), resolution=8, max_images=10).images == 3


def test_progress_ends_at_the_total(tmp_path):
    seen = []
    prepare(
        PngSource(600, damaged=frozenset([5])),
        tmp_path / "store",
        resolution=8,
        on_progress=lambda *state: seen.append(state),
    )
    assert seen[-1] == (600, 600)
    assert seen == sorted(seen)


def test_plan_states_the_size_exactly(tmp_path):
    planned = plan(PngSource(77), resolution=8)
    store = prepare(PngSource(77), tmp_path / "store", resolution=8)
    assert planned.bytes == sum((store.path / name).stat().st_size for name in ("images.npy", "labels.npy"))


def test_a_dead_worker_is_reported(tmp_path):
    with refused(parameter="workers", cause=BrokenProcessPool):
        prepare(PngSource(50, dies_at=20), tmp_path / "store", resolution=8, workers=1)


def test_too_little_room_is_refused_before_writing(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(1000, 0, 1000))
    with refused("9,856 bytes", "1,000 free", parameter="max_images"):
        prepare(PngSource(48), tmp_path / "store", resolution=8)
    assert list(tmp_path.iterdir()) == []


def test_an_existing_destination_is_refused_before_reading(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "file").write_text("x")
    with refused(tmp_path / "store", parameter="overwrite"):
        prepare(PngSource(1, dies_at=0), tmp_path / "store", resolution=8)


@pytest.mark.parametrize(
    ("options", "parameter", "fact"),
    [
        ({}, "resolution", "png"),
        ({"resolution": 0}, "resolution", "0"),
        ({"resolution": -4}, "resolution", "-4"),
        ({"resolution": 8, "channels": 0}, "channels", "0"),
        ({"resolution": 8, "channels": 2}, "channels", "2"),
        ({"resolution": 8, "crop": 0}, "crop", "0"),
        ({"resolution": 8, "crop": -1}, "crop", "-1"),
        ({"resolution": 8, "background": "no colour"}, "background", "'no colour'"),
        ({"resolution": 8, "max_images": 0}, "max_images", "0"),
    ],
)
def test_values_out_of_range_are_refused(tmp_path, options, parameter, fact):
    with refused(fact, parameter=parameter):
        prepare(PngSource(2), tmp_path / "store", **options)


def test_an_empty_source_is_refused(tmp_path):
    with refused("png"):
        prepare(PngSource(0), tmp_path / "store", resolution=8)
