"""Signals are noted and nothing else, also while libraries are imported and images are prepared."""

import importlib
import os
import signal
import types
from contextlib import nullcontext
from pathlib import Path

import pytest

import vitgan.cli.main
import vitgan.cli.stopping
import vitgan.data.workers
from tiny import tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.cli.stopping import stop_on_signal
from vitgan.training.hooks import Hooks

SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


class EndedAtOnce(Exception):
    """In the place of the process's end."""


@pytest.mark.parametrize("number", SIGNALS)
def test_signals_are_noted_and_handlers_put_back(number: int) -> None:
    before = signal.getsignal(number)
    with stop_on_signal() as received:
        os.kill(os.getpid(), number)
        os.kill(os.getpid(), number)  # at once: the same wish, as under torchrun
    assert received[0] == number
    assert signal.getsignal(number) == before


def test_later_interrupt_ends_at_once_and_a_later_term_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(code: int) -> None:
        raise EndedAtOnce(code)

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(vitgan.cli.stopping, "ONE_WISH_SECONDS", -1.0)
    with stop_on_signal() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(EndedAtOnce, match=r"^130$"):
            os.kill(os.getpid(), signal.SIGINT)
    assert set(received) == {signal.SIGTERM}


def test_run_under_nohup_outlives_its_terminal() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signal() as received:
            os.kill(os.getpid(), signal.SIGHUP)
        assert received == []
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_while_importing_ends_the_command_after_it(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    imported: list[str] = []

    def import_module(name: str) -> types.ModuleType:
        os.kill(os.getpid(), number)
        imported.append(name)
        return importlib.import_module(name)

    monkeypatch.setattr(vitgan.cli.main, "import_module", import_module)
    with pytest.raises(SystemExit) as end:
        dispatch(["train", "quickstart"])
    assert end.value.code == 128 + number
    assert imported == ["vitgan.cli.train"]


def test_a_signal_while_images_are_prepared_ends_the_command_and_keeps_what_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vitgan.data.workers, "LARGEST_PART", 8)
    prepared: list[int] = []

    def on_prepare(done: int, total: int) -> None:
        prepared.append(done)
        if len(prepared) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr("vitgan.cli.train.training_display", lambda config: nullcontext(Hooks(on_prepare=on_prepare)))
    config = tmp_path / "tiny.json"
    config.write_text(tiny_run(str(write_images(tmp_path / "photos", 24))).model_dump_json(), "utf-8")
    words = ["train", "--config", str(config), "--out", str(tmp_path / "runs")]
    with pytest.raises(SystemExit) as end:
        dispatch(words)
    assert end.value.code == 128 + signal.SIGTERM
    assert not list((tmp_path / "runs").glob("0*"))
    dispatch(words)
    assert prepared == [8, 24]  # the second part was read, and not told, when the wish was seen
    assert list((tmp_path / "runs").glob("0*/checkpoints/*"))
