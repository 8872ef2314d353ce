import dataclasses
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from toy_features import CLASSES, DIMENSION, in_batches, toy_extractor, toy_images
from vitgan.metrics.features import rebatch
from vitgan.metrics.image_summary import ImageSummary, merge_across_processes, summarize

SETTINGS: dict[str, Any] = {"splits": 4, "kept": 60, "seed": 0}


def summary_of(images: torch.Tensor, *sizes: int, first_position: int = 0, batch_size: int = 64) -> ImageSummary:
    return summarize(
        in_batches(images, *sizes),
        dataclasses.replace(toy_extractor(), batch_size=batch_size),
        count=len(images),
        first_position=first_position,
        **SETTINGS,
    )


def assert_same(first: ImageSummary, second: ImageSummary, tolerance: float) -> None:
    one, two = first.state(), second.state()
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_allclose(values, two[name], rtol=tolerance, atol=tolerance, err_msg=name)


def test_batches_come_out_in_one_size() -> None:
    rows = torch.arange(50)[:, None]
    batches = list(rebatch(in_batches(rows, 1, 17, 3), 8, limit=45))
    assert [len(batch) for batch in batches] == [8] * 5 + [5]
    assert torch.equal(torch.cat(batches), rows[:45])
    assert [len(batch) for batch in rebatch(in_batches(rows, 50), 25)] == [25, 25]


def test_what_comes_after_the_last_image_is_not_read() -> None:
    def stream() -> Iterator[torch.Tensor]:
        yield toy_images(30)
        raise AssertionError("read too far")

    assert summarize(stream(), toy_extractor(), count=30, **SETTINGS).count == 30


def test_bit_for_bit_the_same_however_images_arrive() -> None:
    images = toy_images(300)
    assert_same(summary_of(images, 300), summary_of(images, 1, 64, 13), tolerance=0)


def test_the_networks_batch_size_changes_rounding_alone() -> None:
    images = toy_images(300)
    assert_same(summary_of(images, 300), summary_of(images, 300, batch_size=7), tolerance=1e-5)


def test_parts_merge_into_the_whole() -> None:
    images = toy_images(300)
    part, other = summary_of(images[:111], 50), summary_of(images[111:], 50, first_position=111)
    part.merge(other)
    assert_same(part, summary_of(images, 50), tolerance=1e-5)
    assert part.count == 300
    assert [half.count for half in part.halves] == [150, 150]


def test_state_restores_bit_for_bit() -> None:
    summary = summary_of(toy_images(200), 50)
    restored = ImageSummary(DIMENSION, CLASSES, **SETTINGS)
    restored.restore(summary.state())
    assert_same(summary, restored, tolerance=0)
    with pytest.raises(ValueError, match="another shape"):
        ImageSummary(DIMENSION + 1, CLASSES, **SETTINGS).restore(summary.state())


def test_memory_does_not_grow_with_the_images() -> None:
    rng = np.random.default_rng(0)
    summary = ImageSummary(DIMENSION, CLASSES, **SETTINGS)
    block = torch.from_numpy(rng.standard_normal((1000, DIMENSION)).astype(np.float32))
    logits = torch.zeros(1000, CLASSES)
    sizes = []
    for start in range(0, 40_000, 1000):
        summary.update(block, logits, start)
        waiting = sum(half._waiting_count for half in summary.halves) + summary.sample._waiting_count
        sizes.append(waiting)
    stored = sum(array.nbytes for array in summary.state().values())
    assert max(sizes) <= 2 * 1024 + 1024
    assert stored < 10_000  # 40,000 features are 1.9 MB


def test_too_few_images_are_an_error() -> None:
    with pytest.raises(ValueError, match="31 images were expected, 30 came"):
        summarize([toy_images(30)], toy_extractor(), count=31, **SETTINGS)


def _worker(rank: int, meeting: str, folder: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    images = toy_images(100)
    own = images[:40] if rank == 0 else images[40:]
    merged = merge_across_processes(summary_of(own, 25, first_position=40 * rank))
    np.savez(Path(folder) / f"{rank}.npz", **merged.state())  # pyright: ignore[reportArgumentType]
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_make_one_summary(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=_worker, args=(rank, str(tmp_path / "meeting"), str(tmp_path))) for rank in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=100)
    assert [worker.exitcode for worker in workers] == [0, 0]
    expected = summary_of(toy_images(100), 100).state()
    for rank in range(2):
        with np.load(tmp_path / f"{rank}.npz") as arrays:
            for name in arrays.files:
                np.testing.assert_allclose(arrays[name], expected[name], rtol=1e-5, atol=1e-5, err_msg=name)


def test_alone_a_process_keeps_its_summary() -> None:
    summary = summary_of(toy_images(60), 60)
    assert merge_across_processes(summary) is summary
