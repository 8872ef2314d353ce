"""What a terminal shows of a training: always how much is left, of the budget that ends first."""

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from vitgan.cli.progress import training_display
from vitgan.config import RunConfig
from vitgan.training.clock import Clock
from vitgan.training.config import TrainingConfig


@pytest.mark.parametrize("columns", [80, 200])
def test_share_and_time_left_are_on_a_line_of_their_own(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("vitgan.cli.progress.draws_bars", lambda: True)
    monkeypatch.setattr(
        "rich.console.Console",
        lambda stderr: Console(file=screen, force_terminal=True, width=columns, color_system=None),
    )
    config = RunConfig(training=TrainingConfig(total_kimg=25_000))
    with training_display(config) as hooks:
        assert hooks.on_step is not None
        assert hooks.on_log is not None
        hooks.on_samples(Path("[/new]/[red]/:x:.png"))  # no markup
        clock = Clock()
        hooks.on_step(64, clock)
        clock.wall_seconds = 1e4
        hooks.on_step(12_345_678, clock)
        names = ("loss/discriminator", "loss/generator", "logits/real", "logits/fake")
        hooks.on_log(dict.fromkeys((*names, "gradient_norm/discriminator", "gradient_norm/generator"), -123456.0))
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", screen.getvalue())
    assert "[/new]/[red]/:x:.png" in plain
    bar, losses = [line for line in re.split(r"[\r\n]+", plain) if line.strip()][-2:]
    assert "49%" in bar
    assert "2 h 50 min left" in bar
    assert "12345.7/25000 kimg" in bar
    assert losses.startswith("D loss -1.23e+05")
    assert max(len(bar), len(losses)) <= columns
