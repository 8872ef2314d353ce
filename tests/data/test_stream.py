import threading
import time
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.samples import image_numbers, make_store
from refusals import refused
from vitgan.data.stream import ImageStream

COUNT = 23


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("stream") / "store", COUNT, labelled=True)


@settings(deadline=None, max_examples=60)
@given(
    world_size=st.integers(1, 5),
    per_process=st.integers(1, 30),
    seed=st.integers(0, 2**40),
    resume_after=st.integers(0, 20),
)
def test_every_image_comes_once_per_epoch_for_any_world_size_and_resume_point(
    store, world_size, per_process, seed, resume_after
):
    size = world_size * per_process
    steps = -(-3 * COUNT // size) + resume_after
    sequence = []
    for step in range(steps):
        # A new stream for each step after the resume point stands for a restarted process.
        for rank in range(world_size):
            stream = ImageStream(store, size, seed, rank, world_size)
            images, labels = stream.batch(step * size)
            numbers = image_numbers(images)
            assert labels is not None
            assert labels.tolist() == [number % 7 for number in numbers]
            sequence += numbers
    for start in range(0, len(sequence) - COUNT + 1, COUNT):
        assert sorted(sequence[start : start + COUNT]) == list(range(COUNT))
    # Another world size sees the same images in the same order.
    alone = ImageStream(store, size, seed)
    assert image_numbers(alone.batch(resume_after * size)[0]) == sequence[resume_after * size :][:size]


@settings(deadline=None, max_examples=60)
@given(position=st.integers(0, 10**9), batch_size=st.integers(1, 60), seed=st.integers(0, 2**32))
def test_the_order_is_the_documented_one(store, position, batch_size, seed):
    images, _ = ImageStream(store, batch_size, seed).batch(position)
    expected = []
    for p in range(position, position + batch_size):
        generator = np.random.Generator(np.random.PCG64([seed, p // COUNT]))
        expected.append(int(generator.permutation(COUNT)[p % COUNT]))
    assert image_numbers(images) == expected


def test_batches_are_uint8_copies(store):
    images, labels = ImageStream(store, 4, 0).batch(0)
    assert images.shape == (4, 1, 4, 4)
    assert images.dtype == np.uint8
    assert labels is not None
    assert labels.dtype == np.int64
    images[:] = 0  # writable, and the store is not touched
    assert ImageStream(store, 4, 0).batch(0)[0].any()


def test_an_unlabelled_store_gives_no_labels(tmp_path):
    assert ImageStream(make_store(tmp_path / "store", 5), 2, 0).batch(0)[1] is None


def test_uneven_batches_are_refused(store):
    with refused(32, 3, parameter="batch_size"):
        ImageStream(store, 32, 0, 0, 3)
    with refused(0, parameter="batch_size"):
        ImageStream(store, 0, 0)


def test_prefetched_batches_equal_direct_ones(store):
    stream = ImageStream(store, 10, 3, 1, 2)
    with closing(stream.batches(70)) as batches:
        for step in range(12):
            images, labels = next(batches)
            expected, expected_labels = stream.batch(70 + 10 * step)
            assert np.array_equal(images, expected)
            assert labels is not None
            assert expected_labels is not None
            assert np.array_equal(labels, expected_labels)


def threads_of_streams():
    return [thread for thread in threading.enumerate() if "read-ahead" in thread.name]


def test_closing_ends_the_thread_and_the_iteration(store):
    batches = ImageStream(store, 4, 0).batches()
    next(batches)
    assert threads_of_streams()
    batches.close()
    batches.close()
    assert not threads_of_streams()
    assert list(batches) == []


def test_a_forgotten_iterator_does_not_keep_its_thread(store):
    batches = ImageStream(store, 4, 0).batches()
    next(batches)
    del batches
    for _ in range(100):
        if not threads_of_streams():
            break
        time.sleep(0.05)
    assert not threads_of_streams()


def test_an_error_reaches_the_consumer_at_its_batch(store):
    class Failing(ImageStream):
        def batch(self, images_seen):
            if images_seen >= 12:
                raise OSError("gone")
            return super().batch(images_seen)

    batches = Failing(store, 4, 0).batches()
    assert len([next(batches) for _ in range(3)]) == 3
    with pytest.raises(OSError, match=r"^gone$"):
        next(batches)
    assert not threads_of_streams()
