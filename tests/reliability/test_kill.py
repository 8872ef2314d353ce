"""The short form of `torture.py`: a handful of kills at random moments, at one and at two processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import vitgan
from reliability.children import ENVIRONMENT, Children
from reliability.torture import Torture, content
from tiny import TINY_OVERRIDES, newest, write_images
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.runs.folder import config_of_run


def test_killed_training_equals_uninterrupted(children: Children, tmp_path: Path) -> None:
    torture = Torture(tmp_path, children, seed=1)
    torture.training(kills=8)
    assert torture.figures.faults() == []
    assert torture.figures.kills.total() >= 8
    assert torture.figures.resumes > 0


def test_killed_training_of_two_processes_equals_uninterrupted(children: Children, tmp_path: Path) -> None:
    torture = Torture(tmp_path, children, seed=2)
    torture.training(kills=1, processes=2)
    assert torture.figures.faults() == []


def test_killed_preparation_equals_uninterrupted(children: Children, tmp_path: Path) -> None:
    torture = Torture(tmp_path, children, seed=3)
    torture.preparation(kills=3)
    assert torture.figures.faults() == []


def test_killed_preparation_of_a_source_that_changes_has_no_image_of_the_old_one(
    children: Children, tmp_path: Path
) -> None:
    torture = Torture(tmp_path, children, seed=4)
    torture.preparation(kills=4, changes=True)
    assert torture.figures.faults() == []


def test_the_comparison_sees_what_it_should(tmp_path: Path) -> None:
    figures = Torture(tmp_path, Children(), seed=0).figures
    figures.compare({"a": b"1", "b": b"2"}, {"a": b"3", "c": b""}, "run")
    assert (figures.differences, figures.lost, figures.errors) == (["run: a"], ["run: b"], ["run: c is left over"])


def test_sigterm_saves_within_seconds_and_the_run_ends_as_uninterrupted(tmp_path: Path) -> None:
    """The command itself: its exit code is the documented one, it ends soon, and says how to go on."""
    data = tmp_path / "data"
    prepare(ImageFolder(write_images(data / "images")), data / "store", resolution=8, workers=0)
    options = ["--data", str(data / "store"), *TINY_OVERRIDES, "--training.total-kimg", "1000", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "vitgan", "train", "cifar10-tiny", *options, "--training.trackers"]
    run = tmp_path / "00000-cifar10-tiny"
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | ENVIRONMENT)
    try:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 128 + signal.SIGTERM
        assert f"vitgan train --resume {run}" in (tmp_path / "log").read_text()
    finally:
        process.kill()
        process.wait()
    stopped = newest(run)
    images = int(stopped.name.replace("k", "")) + 8
    config = config_of_run(run)
    config = config.model_copy(
        update={"training": config.training.model_copy(update={"total_kimg": images / 1000, "keep_checkpoints": 1})}
    )
    resumed, whole = vitgan.train(config, resume=run), vitgan.train(config, tmp_path / "whole")
    assert content(newest(whole)) == content(newest(resumed))
    assert content(whole)["metrics.jsonl"] == content(resumed)["metrics.jsonl"]
