"""Commands that are printed can be pasted into a shell, whatever folders are called."""

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

import vitgan
from vitgan.cli.main import dispatch
from vitgan.cli.preset_texts import NAMES, summary
from vitgan.cli.train import recommended
from vitgan.config import RunConfig
from vitgan.errors import command
from vitgan.presets import PRESET_NAMES, cifar10_tiny_projected, preset
from vitgan.runs.train import check_networks

AWKWARD = ["my store", "it's", "$HOME", "a;b", "*", "", "-x", "ü"]


def test_a_shell_reads_the_words_that_were_meant() -> None:
    assert shlex.split(command("train", "--data", *AWKWARD)) == ["vitgan", "train", "--data", *AWKWARD]
    assert command("train", "--resume", Path("runs/00000-quickstart")) == "vitgan train --resume runs/00000-quickstart"


def test_no_command_is_printed_without_quoting() -> None:
    """In f-strings of the package, nothing is put behind "vitgan train" and its like but by `command`."""
    options = re.compile(r"vitgan (data|train|sample|evaluate|explore|export|serve|ablate)\b([^`\n]* --[\w-]+)? $")
    ours = {"name", "arguments[0]", "start.preset", "RECOMMENDED"}
    found = []
    for path in Path(vitgan.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            parts = node.values if isinstance(node, ast.JoinedStr) else []
            for part, following in itertools.pairwise(parts):
                text = part.value if isinstance(part, ast.Constant) else ""
                if isinstance(following, ast.FormattedValue) and options.search(str(text)):
                    name = ast.unparse(following.value)
                    if name not in ours and not name.startswith("config.model."):
                        found.append(f"{path.name}: {text}{{{name}}}")
    assert found == []


@pytest.mark.parametrize("resolution", [32, 64, 28, 30, 31, 100, 4])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_recommended_command_is_a_run_that_can_be_made(
    resolution: int, channels: int, labelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    described: list[RunConfig] = []
    monkeypatch.setattr("vitgan.cli.train.describe", described.append)  # which counts FLOPs
    dispatch(["train", *recommended(resolution, channels, labelled), "--dry-run"])
    (config,) = described
    assert config.model.resolution == resolution
    assert labelled or not config.model.conditional
    check_networks(config, starts=True)


def test_the_best_measured_preset_is_recommended_for_small_images() -> None:
    (name,) = recommended(32, 3, labelled=True)
    assert preset(name).model == cifar10_tiny_projected().model


def test_help_texts_know_every_preset() -> None:
    assert NAMES == PRESET_NAMES
    assert all(summary(name) for name in PRESET_NAMES)
