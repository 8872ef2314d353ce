"""Values that would make a run of nothing, or one that ends in the middle, are refused before there is a run."""

import pytest
from pydantic import ValidationError

from tiny import tiny_model, tiny_run
from vitgan.errors import UserError
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
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


def test_a_preset_takes_changes_by_dotted_names() -> None:
    config = preset("quickstart", **{"training.total_kimg": 1, "model.generator.depth": 3, "data": "store"})
    plain = preset("quickstart")
    model = replaced(plain.model, generator=replaced(plain.model.generator, depth=3))
    assert config == replaced(plain, data="store", model=model, training=replaced(plain.training, total_kimg=1))
    other = preset("cifar10", **{"model.generator": StyleGAN2GeneratorConfig()})
    assert other.model.generator == StyleGAN2GeneratorConfig()


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("training.total_kim", 1, "training.total_kimg"),
        ("total_kimg", 1, "training.total_kimg"),
        ("generator.inr_dim", 1, "model.generator.inr_dim"),
        ("training.total_kimg.x", 1, None),
        ("training", {"total_kimg": 1}, None),
        ("training.total_kimg", 0, "training.total_kimg"),
        ("training.total_kimg", "many", "training.total_kimg"),
        ("training.batch_size", 7.5, "training.batch_size"),
        ("objective.loss", "hing", "objective.loss"),
    ],
)
def test_a_change_that_does_not_fit_names_the_field(field: str, value: object, meant: str | None) -> None:
    with pytest.raises(UserError) as error:
        preset("quickstart", **{field: value})
    assert "\n" not in str(error.value)
    assert meant is None or error.value.parameter == meant
