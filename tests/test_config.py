"""Values that would make a run of nothing, or one that ends in the middle, are refused before there is a run."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from tiny import tiny_model, tiny_run
from vitgan.errors import UserError
from vitgan.models.build import CustomConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig
from vitgan.presets import PRESET_NAMES, from_file, preset, replaced


def test_a_run_has_at_least_one_image() -> None:
    with pytest.raises(ValidationError) as error:
        tiny_run("store", total_kimg=0.0004)
    assert error.value.errors()[0]["loc"] == ("total_kimg",)
    assert tiny_run("store", total_kimg=0.001).training.total_kimg == 0.001


@pytest.mark.parametrize("names", [("training", "training.seed"), ("training.seed", "training")])
def test_a_change_inside_a_part_holds_before_and_behind_it(names: tuple[str, ...]) -> None:
    changes: dict[str, object] = {"training": preset("cifar10").training, "training.seed": 3}
    changed = preset("quickstart", **{name: changes[name] for name in names})
    assert changed.training.seed == 3
    assert changed.training.total_kimg == preset("cifar10").training.total_kimg


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
    assert preset("quickstart", training={"total_kimg": 1}) == preset("quickstart", **{"training.total_kimg": 1})
    other = preset("cifar10", **{"model.generator.kind": "stylegan2"})
    assert other.model.generator == StyleGAN2GeneratorConfig()
    other = preset("cifar10", **{"model.generator": StyleGAN2GeneratorConfig()})
    assert other.model.generator == StyleGAN2GeneratorConfig()


@pytest.mark.parametrize(
    ("field", "value", "meant"),
    [
        ("training.total_kim", 1, "training.total_kimg"),
        ("total_kimg", 1, "training.total_kimg"),
        ("generator.inr_dim", 1, "model.generator.inr_dim"),
        ("training.total_kimg.x", 1, None),
        ("training", {"total_kim": 1}, "training.total_kimg"),
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


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_a_whole_configuration_comes_back_from_its_file(tmp_path: Path, name: str) -> None:
    config = preset(name, **{"training.seed": 7, "data": "store"})
    file = tmp_path / "config.json"
    for renamed in (name, "of-an-experiment"):
        config = config.model_copy(update={"preset": renamed})
        file.write_text(config.model_dump_json())
        assert from_file(file) == config
    assert from_file(file, preset("quickstart")) == config


def test_a_file_gives_some_fields_and_the_preset_the_others(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("""
preset: quickstart
training:
  learning_rate: 1e-3
  trackers: []
model:
  generator: {kind: stylegan2, channel_base: 128}
  discriminator: {dim: 48}
""")
    changes = {"training.learning_rate": 0.001, "training.trackers": (), "model.discriminator.dim": 48}
    generator = StyleGAN2GeneratorConfig(channel_base=128)
    assert from_file(file) == preset("quickstart", **changes, **{"model.generator": generator})
    assert from_file(file, preset("cifar10")).objective == preset("cifar10").objective
    file.write_text("model: {generator: {kind: custom, name: mine, settings: {width: 3}}}")
    assert from_file(file).model.generator == CustomConfig(name="mine", settings={"width": 3})


@pytest.mark.parametrize(
    ("name", "text", "meant"),
    [
        ("a.yaml", "training: {total_kim: 1}", "training.total_kimg"),
        ("a.yaml", "total_kimg: 1", "training.total_kimg"),
        ("a.json", '{"training": {"batch_size": "many"}}', "training.batch_size"),
        ("a.json", '{"training": {"batch_size": 7.5}}', "training.batch_size"),
        ("a.json", '{"training": 5}', "training"),
        ("a.yaml", "training:", "training"),
        ("a.yaml", "model: {generator: {kind: stylegan3}}", "model.generator.kind"),
        ("a.yaml", "model: {generator: {kind: stylegan2, dim: 3}}", "model.generator.stylegan2.dim"),
        ("a.yaml", "preset: quickstrat", None),
        ("a.yaml", "data: a\ndata: b", None),
        ("a.yaml", "training: {seed: 1, seed: 2}", None),
        ("a.json", '{"training": {"seed": 1, "seed": 2}}', None),
        ("a.yaml", "a: &a {b: *a}", None),
        ("a.yaml", "a: &a [x, x]\nb: &b [*a, *a]\ntraining: *b", None),
        ("a.yaml", "!!python/object/apply:os.getcwd []", None),
        ("a.yaml", "a: [", None),
        ("a.yaml", "", None),
        ("a.json", "[]", None),
        ("a.json", "{", None),
        ("a.toml", "a = 1", None),
        ("a.json", None, None),
    ],
)
def test_a_file_that_does_not_fit_is_one_line(tmp_path: Path, name: str, text: str | None, meant: str | None) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as error:
        from_file(tmp_path / name)
    assert "\n" not in str(error.value)
    assert name in str(error.value)
    assert error.value.parameter == meant


def test_a_section_of_a_file_is_no_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"model": [1]}))
    with pytest.raises(UserError) as error:
        from_file(tmp_path / "a.json")
    assert error.value.parameter == "model"
