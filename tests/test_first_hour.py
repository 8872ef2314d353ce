"""The kit for the first hour on a GPU, rehearsed on a CPU with tiny networks."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch

import vitgan
from benchmarks import first_hour, first_hour_report
from benchmarks.first_hour import Job, Plan, fits, in_child, largest, work_through
from tiny import tiny_run, write_images
from toy_features import toy_extractor
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder

PRESET = "cifar10-tiny"
PROTOCOL = """{"name": "tiny", "purpose": "a test", "features": "lite0", "generated_images": 32, "reference_images": 100,
"kernel_subsets": 2, "kernel_subset_size": 8, "manifold_images": 32, "splits": 2}"""


def in_this_process(job: Job) -> dict[str, Any]:
    return {"said": "2 passed"} if job.work == "cuda_tests" else getattr(first_hour, job.work)(**job.arguments)


def test_the_hour_is_done_in_pieces_and_leaves_what_can_be_carried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(ImageFolder(write_images(tmp_path / "images", 120)), tmp_path / "store", resolution=8, workers=0)
    (tmp_path / "protocol.json").write_text(PROTOCOL)
    tiny = tiny_run("unused", total_kimg=1e6, log_every_kimg=0.02, samples_every_kimg=1e6)
    monkeypatch.setattr("vitgan.presets.preset", lambda name: tiny)
    monkeypatch.setattr("benchmarks.players.preset", lambda name: tiny)
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda *_: toy_extractor("lite0"))
    monkeypatch.setattr(first_hour_report, "PART_BYTES", 10_000)
    monkeypatch.setattr(first_hour, "OVERHEAD_MINUTES", 1 / 60)
    options = '{"batch_size": 4, "device": "cpu"}'
    protocol = str(tmp_path / "protocol.json")
    plan = Plan(
        tmp_path / "out", str(tmp_path / "store"), (PRESET,), 2, 2 / 60, protocol, modes=("eager",), training=options
    )

    assert work_through(plan, 0, in_this_process) == "tests"
    left, calls = "", 0
    while left is not None:  # so much time that the longest job just fits
        left, calls = work_through(plan, 7.01, in_this_process), calls + 1
        assert calls < 9

    carry = tmp_path / "out" / "carry"
    page = (carry / "gpu.md").read_text()
    assert first_hour_report.REHEARSAL in page
    assert "2 passed" in page
    assert page.count(f"| `{PRESET}`") == 4  # a step, a batch, two pieces
    pieces = [line.split(" | ") for line in page.splitlines() if f"| `{PRESET}` | " in line][-2:]
    assert float(pieces[1][4]) >= float(pieces[0][4])
    done = json.loads((carry / "results.json").read_text())
    assert done[f"piece {PRESET} 2"]["kimg"] > done[f"piece {PRESET} 1"]["kimg"] > 0
    [run] = (tmp_path / "out" / "runs" / PRESET).glob("0*")  # the second piece went on with the first one's run
    assert {path.name for path in carry.iterdir()} > {"gpu.md", "results.json", "curves.png", "grids.png"}
    parts = sorted(carry.glob(f"{PRESET}.tar.*"))
    assert len(parts) > 1
    assert max(path.stat().st_size for path in parts) == 10_000
    with tarfile.open(fileobj=io.BytesIO(b"".join(part.read_bytes() for part in parts))) as tar:
        tar.extractall(tmp_path / "model", filter="data")
    carried, own = vitgan.load(tmp_path / "model" / PRESET), vitgan.load(run)
    torch.testing.assert_close(carried.sample(2, seed=0), own.sample(2, seed=0), rtol=0.02, atol=0.02)

    results = (carry / "results.json").stat().st_mtime_ns
    assert work_through(plan, 9, in_this_process) is None  # nothing is done twice
    assert (carry / "results.json").stat().st_mtime_ns == results


def test_a_job_that_fails_is_told_and_ends_nothing() -> None:
    assert "failed" in in_child(Job("x", "no such work", {}, 1))


@pytest.mark.parametrize("limit", [0, 15, 16, 17, 100, 128, 333, 1000, 4096, 10_000])
def test_the_largest_batch_is_found_to_a_sixteenth(limit: int) -> None:
    found = largest(lambda size: size <= limit, 16, 4096)
    real = min(limit, 4096)
    assert found % 16 == 0
    assert real - max(16, real / 16) - 16 < found <= real


def test_memory_that_does_not_suffice_is_no_failure_and_all_else_is() -> None:
    def fail(error: Exception) -> None:
        raise error

    assert fits(lambda: None)
    assert not fits(lambda: fail(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        fits(lambda: fail(RuntimeError("shapes")))
