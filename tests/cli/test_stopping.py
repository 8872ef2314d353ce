"""Signals are noted and nothing else, also while libraries are imported."""

import importlib
import os
import signal
import types

import pytest

import vitgan.cli.main
import vitgan.cli.stopping
from vitgan.cli.main import dispatch
from vitgan.cli.stopping import stop_on_signal

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
