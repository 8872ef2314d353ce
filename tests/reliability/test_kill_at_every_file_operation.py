"""A process that dies between any two operations on files leaves a run with a sound checkpoint, and the rest is the same.

The death is simulated in this process: from the n-th operation on, none is let through, also not those of handlers.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vitgan
from reliability.torture import content
from tiny import newest, tiny_run
from vitgan.presets import replaced
from vitgan.training.checkpoint import checkpoints, latest_checkpoint

OPERATIONS = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open")


class Killed(BaseException):
    """The process is dead."""


class Reaper:
    """Counts operations that change files below a folder; from the `dies_at`-th on, each raises."""

    def __init__(self) -> None:
        self.below, self.dies_at, self.count = "", 0, 0
        sys.addaudithook(self.hear)  # stays until the interpreter ends: idle where `below` is ""

    def hear(self, event: str, arguments: tuple) -> None:
        if not self.below or event not in OPERATIONS:
            return
        path = arguments[0]
        reads = event == "open" and not any(letter in str(arguments[1]) for letter in "wa+x")
        if reads or not str(path).startswith(self.below):
            return
        self.count += 1
        if self.count >= self.dies_at:
            raise Killed

    @contextmanager
    def killing(self, below: Path, dies_at: int) -> Iterator[None]:
        self.below, self.dies_at, self.count = str(below), dies_at, 0
        try:
            yield
        except Killed:
            pass
        finally:
            self.below = ""


@pytest.fixture(scope="module")
def reaper() -> Reaper:
    return Reaper()


def test_a_sound_checkpoint_is_there_at_every_moment(store: str, tmp_path: Path, reaper: Reaper) -> None:
    config = tiny_run(store, keep_checkpoints=1, total_kimg=0.012, samples_every_kimg=10)
    begun = vitgan.train(replaced(config, training=replaced(config.training, total_kimg=0.008)), tmp_path / "begun")
    expected = content(vitgan.train(config, resume=shutil.copytree(begun, tmp_path / "whole" / begun.name)))
    dies_at, died = 1, True
    while died:
        run = shutil.copytree(begun, tmp_path / str(dies_at) / begun.name)
        with reaper.killing(run, dies_at):
            vitgan.train(config, resume=run)
        died = reaper.count >= dies_at
        assert latest_checkpoint(run) is not None, dies_at
        if dies_at % 4 == 0:
            vitgan.train(config, resume=run)
            assert content(run) == expected, dies_at
            assert [folder.name for folder in checkpoints(run)] == [newest(run).name]
        shutil.rmtree(run.parent)
        dies_at += 1
    assert dies_at > 30
