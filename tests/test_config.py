"""Values that would make a run of nothing, or one that ends in the middle, are refused before there is a run."""

import pytest
from pydantic import ValidationError

from tiny import tiny_model, tiny_run
from vitgan.errors import UserError
from vitgan.presets import preset, replaced


def test_a_run_has_at_least_one_image() -> None:
    with pytest.raises(ValidationError) as error:
        tiny_run("store", total_kimg=0.0004)
    assert error.value.errors()[0]["loc"] == ("total_kimg",)
    assert tiny_run("store", total_kimg=0.001).training.total_kimg == 0.001


def test_a_sample_grid_that_no_picture_can_hold_is_refused() -> None:
    config = tiny_run("store", sample_count=1100)
    with pytest.raises(UserError) as error:
        replaced(config, model=tiny_model(resolution=512))
    assert error.value.parameter == "training.sample_count"
    assert preset("lsun256").training.sample_count == 64
