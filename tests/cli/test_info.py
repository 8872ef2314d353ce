"""`vitgan info` beyond the list that test_main looks at: a bundled model is said to be trained as its card says."""

import re

import pytest

from vitgan.cli.main import dispatch
from vitgan.commands import PRESET_NAMES
from vitgan.pretrained.names import bundled_models


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_models_preset_is_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info", name])
    shown = capsys.readouterr().out.split("model ", 1)[-1] if name in PRESET_NAMES else capsys.readouterr().out
    card = (bundled_models()[name] / "README.md").read_text(encoding="utf-8")
    said = re.search(r"Preset `([\w-]+)`", card)
    assert said is not None
    assert re.findall(r"[Pp]reset `?([\w-]+)", shown) == [said[1]]
    assert "trained with it" not in shown
