"""The short form of `signals.py`: every kind of output, every phase and every pair of signals, once."""

import pytest

from reliability.children import Children
from reliability.signals import CLOSED, HUP, INT, TERM, Stopping


@pytest.fixture(scope="module")
def stopping(children: Children, tmp_path_factory: pytest.TempPathFactory) -> Stopping:
    return Stopping(tmp_path_factory.mktemp("stopping"), children, seed=1)


@pytest.mark.parametrize(
    ("streams", "phases", "signals"),
    [
        ("gone", ["start", "step"], [[TERM], [INT, INT]]),
        ("blocked", ["building", "checkpoint"], [[INT], [TERM, TERM]]),
        ("full", ["samples", "evaluation"], [[HUP], [TERM]]),
        ("closed", ["log", "evaluation"], [[HUP, TERM], [INT]]),
        ("stopped terminal", ["step"], [[INT, INT]]),
        ("terminal", ["building", "step"], [[TERM, TERM], CLOSED]),
    ],
)
def test_stopped_training_equals_uninterrupted(
    stopping: Stopping, streams: str, phases: list[str], signals: list[list[int]]
) -> None:
    stopping.run(streams, phases, signals)
    assert stopping.figures.faults() == []
    assert stopping.figures.kills[f"{phases[0]}, {streams}"] == 1
