"""A profile tells what the time went to, and changes nothing of the run."""

import gzip
import json
from pathlib import Path

import pytest

import vitgan
from reliability.torture import content
from tiny import tiny_run
from vitgan.cli.main import dispatch
from vitgan.training.hooks import Hooks
from vitgan.training.profiler import WAIT, WARMUP


def test_a_profiled_run_is_the_run_and_its_trace_has_the_steps(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run(store, total_kimg=(WAIT + WARMUP + 3) * 0.004)
    plain = vitgan.train(config, tmp_path / "plain")
    assert not (plain / "profile").exists()
    file = ["--config", str(plain / "config.json")]
    dispatch(["train", *file, "--out", str(tmp_path / "profiled"), "--profile-steps", "2"])
    run, table = tmp_path / "profiled" / plain.name, capsys.readouterr().err
    path = run / "profile" / "000000k032.json.gz"
    assert f"profile: {path}" in table
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    assert len({event["name"] for event in events if event["name"].startswith("ProfilerStep#")}) == 2
    assert any(event["name"] == "aten::addmm" for event in events)
    assert "aten::" in table  # which operators come first is a matter of time
    path.unlink()
    assert content(run) == content(plain)


def test_a_run_that_ends_before_its_profile_says_so(store: str, tmp_path: Path) -> None:
    told: list[str] = []
    run = vitgan.train(tiny_run(store), tmp_path, hooks=Hooks(profile_steps=9, on_notice=told.append))
    assert any("profile" in line for line in told)
    assert not (run / "profile").exists()
