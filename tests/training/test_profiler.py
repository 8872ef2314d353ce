"""A profile tells what the time went to, and changes nothing of the run."""

import gzip
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch.autograd import DeviceType  # pyright: ignore[reportPrivateImportUsage]

import vitgan
from reliability.torture import content
from tiny import tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.training.hooks import Hooks
from vitgan.training.profiler import WAIT, WARMUP, summary


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    prepare(ImageFolder(write_images(folder / "images")), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


def shares(table: str) -> list[float]:
    return [float(share) for share in re.findall(r"^ *([\d.]+)%", table, re.MULTILINE)]


def test_a_profiled_run_is_the_run_and_its_trace_has_the_steps(store: str, tmp_path: Path) -> None:
    config = tiny_run(store, total_kimg=(WAIT + WARMUP + 3) * 0.004)
    plain = vitgan.train(config, tmp_path / "plain")
    assert not (plain / "profile").exists()
    found: list[tuple[Path, str]] = []
    hooks = Hooks(profile_steps=2, on_profile=lambda *profile: found.append(profile))
    run = vitgan.train(config, tmp_path / "profiled", hooks=hooks)
    [(path, table)] = found
    assert path == run / "profile" / "000000k032.json.gz"
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert len({event["name"] for event in events if event["name"].startswith("ProfilerStep#")}) == 2
    assert any(event["name"] == "aten::addmm" for event in events)
    assert sum(shares(table)) == pytest.approx(100, abs=1)
    path.unlink()
    assert content(run) == content(plain)


def test_the_command_prints_the_table(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = vitgan.train(tiny_run(store), tmp_path)
    longer = ["--training.total-kimg", "0.06", "--profile-steps", "1"]
    dispatch(["train", "--resume", str(run), *longer])
    printed = capsys.readouterr().err
    assert len(shares(printed)) > 5
    assert f"profile: {run / 'profile' / '000000k052.json.gz'}" in printed


def test_a_run_that_ends_before_its_profile_says_so(store: str, tmp_path: Path) -> None:
    told: list[str] = []
    run = vitgan.train(tiny_run(store), tmp_path, hooks=Hooks(profile_steps=9, on_notice=told.append))
    assert any("profile" in line for line in told)
    assert not (run / "profile").exists()


def test_a_gpus_kernels_are_told_and_not_what_launched_them() -> None:
    def event(key: str, device: DeviceType, cpu: float, gpu: float, annotation: bool = False) -> Any:
        times = {"cpu_time_total": cpu, "self_cpu_time_total": cpu, "self_device_time_total": gpu}
        return SimpleNamespace(key=key, device_type=device, count=4, is_user_annotation=annotation, **times)

    events = [
        event("ProfilerStep*", DeviceType.CPU, 4000, 0, annotation=True),
        event("ProfilerStep*", DeviceType.CUDA, 0, 3000, annotation=True),
        event("aten::mm", DeviceType.CPU, 900, 600),
        event("gemm", DeviceType.CUDA, 0, 600),
        event("softmax", DeviceType.CUDA, 0, 200),
    ]
    table = summary(SimpleNamespace(key_averages=lambda: events), "cuda", 2)  # pyright: ignore[reportArgumentType]
    assert shares(table) == [75, 25, 0]
    assert "2 steps of 2.0 ms; the rows add up to 0.4 ms, 20% of it" in table
