"""Fields that do nothing beside others are refused where somebody sets them, and nowhere else."""

import json
from pathlib import Path

import pytest

from vitgan.cli.main import dispatch
from vitgan.config import NEEDS, RunConfig, flat
from vitgan.errors import UserError
from vitgan.presets import PRESET_NAMES, from_file, preset

USELESS: list[tuple[str, str, object]] = [
    ("cifar10", "model.num_classes", 10),
    ("cifar10", "model.generator.gate_bias", 0.5),
    ("cifar10-gat", "model.generator.position_frequency", 2.0),
    ("cifar10-gat", "model.discriminator.position_frequency", 2.0),
    ("cifar10-vanilla", "model.generator.pixel_frequency", 2.0),
    ("cifar10-vanilla", "model.generator.inr_dim", 8),
    ("cifar10-vanilla", "model.generator.modulation_init", 0.1),
    ("cifar10-vanilla", "model.generator.modulation_silu", True),
    ("cifar10", "model.generator.levels", "scaled"),
    ("cifar10", "model.discriminator.alignment_block", 1),
    ("cifar10", "model.discriminator.alignment_size", 32),
    ("cifar10", "objective.classification", 0.5),
    ("quickstart", "objective.out_of_range", 0.3),
    ("quickstart", "objective.path_length", 2.0),
    ("cifar10", "model.discriminator.classifier", True),
    ("imagenet256-gat-s", "objective.classification", 0.5),
    ("cifar10-stylegan2d", "objective.classification", 0.5),
    ("cifar10", "objective.penalty", "finite_difference"),
    ("cifar10-stylegan2d", "objective.penalty_noise", 0.01),
    ("cifar10", "protocol", "fid-50k"),
    ("cifar10", "objective.penalty_interval", 4),
    ("cifar10", "objective.lecam_decay", 0.9),
    ("cifar10", "objective.path_length_interval", 8),
    ("cifar10-vanilla", "objective.style_mixing", 0.9),
    ("cifar10-tiny", "augment.cutout", 0.0),
    ("cifar10", "augment.adaptive_kimg", 100.0),
    ("cifar10", "training.rollback_rate", 0.9),
]


@pytest.mark.parametrize(("name", "field", "value"), USELESS)
def test_a_field_that_does_nothing_is_refused_where_it_is_set(name: str, field: str, value: object) -> None:
    with pytest.raises(UserError) as caught:
        preset(name, **{field: value})
    assert caught.value.parameter == field
    assert "\n" not in str(caught.value)


def test_a_classifier_without_classes_is_refused_where_it_is_set_and_else_left_out() -> None:
    without = {"model.conditional": False}
    with pytest.raises(UserError) as caught:
        preset("cifar10-tiny-projected", **without, **{"objective.classification": 0.3})
    assert caught.value.parameter == "objective.classification"
    assert not preset("cifar10-tiny-projected", **without).model.conditional


def test_a_conditional_d_has_a_classifier_only_to_please_it() -> None:
    classes, classifier = {"model.conditional": True}, {"model.discriminator.classifier": True}
    with pytest.raises(UserError) as caught:
        preset("cifar10-tiny", **classes, **classifier)
    assert caught.value.parameter == "model.discriminator.classifier"
    assert "objective.classification" in str(caught.value)
    assert preset("cifar10-tiny", **classes, **classifier, **{"objective.classification": 0.5}).model.conditional


def test_noise_at_the_penalty_needs_a_penalty() -> None:
    none = {"objective.r1_gamma": 0.0, "objective.r2_gamma": 0.0}
    with pytest.raises(UserError) as caught:
        preset("cifar10-tiny-modern", **none, **{"objective.penalty_noise": 0.01})
    assert caught.value.parameter == "objective.penalty_noise"


@pytest.mark.parametrize(
    ("user", "value"), [("objective.diffaugment", True), ("objective.bcr_real", 10.0), ("objective.bcr_fake", 10.0)]
)
def test_an_augmentation_that_changes_nothing_is_refused(user: str, value: object) -> None:
    kept = {"objective.diffaugment": False, "objective.bcr_real": 0.0, "objective.bcr_fake": 0.0} | {user: value}
    off = {"augment.translation": 0.0, "augment.color": False, "augment.cutout": 0.0, "augment.scaling": 0.0}
    with pytest.raises(UserError) as caught:
        preset("cifar10", **kept, **off)
    assert caught.value.parameter == user
    assert preset("cifar10", **kept, **(off | {"augment.color": True})).augment.color


def test_what_is_turned_off_beside_what_it_needs_is_no_mistake() -> None:
    off = {"objective.diffaugment": False, "augment.adaptive": None}
    assert preset("cifar10-tiny-projected", **off).augment.adaptive is None
    with pytest.raises(UserError) as caught:
        preset("cifar10-tiny-projected", **{"objective.diffaugment": False})
    assert caught.value.parameter == "augment.adaptive"


def test_every_field_of_the_table_is_one_and_is_tried_above() -> None:
    fields = dict(flat(RunConfig().model_dump()))
    for field, others in NEEDS.items():
        groups = others if isinstance(others, tuple) else (others,)
        assert {field, *(name for group in groups for name in group)} <= fields.keys()
        assert field.startswith("augment.") or field in {tried for _, tried, _ in USELESS}


def test_it_does_something_beside_what_it_needs() -> None:
    for changes in (
        {"model.generator.gated": True, "model.generator.gate_bias": 0.5},
        {"model.generator.num_levels": 2, "model.generator.levels": "scaled"},
        {"objective.r2_gamma": 1.0, "objective.penalty": "finite_difference", "objective.penalty_noise": 0.01},
        {"objective.bcr_fake": 1.0, "objective.diffaugment": False, "augment.cutout": 0.0},
        {"model.generator.kind": "vit", "objective.style_mixing": 0.9},
    ):
        assert preset("cifar10", **changes).preset == "cifar10"
    assert preset("cifar10-stylegan2", **{"objective.style_mixing": 0.9}).objective.style_mixing == 0.9


@pytest.mark.parametrize("name", PRESET_NAMES)
def test_what_a_preset_leaves_behind_is_no_fault(name: str, tmp_path: Path) -> None:
    """A run's own file has all fields; and a change may leave others nothing to do."""
    file = tmp_path / "config.json"
    file.write_text(preset(name).model_dump_json())
    assert from_file(file) == preset(name)
    if preset(name).model.generator.kind == "vit" and preset(name).model.generator.model_dump()["gated"]:
        assert preset(name, **{"model.generator.gated": False}).model.generator.model_dump()["gated"] is False


def test_the_command_line_and_files_of_some_fields_refuse_too(tmp_path: Path) -> None:
    file = tmp_path / "some.json"
    file.write_text(json.dumps({"preset": "cifar10", "model": {"generator": {"gate_bias": 0.5}}}))
    for words in (["cifar10", "--model.generator.gate-bias", "0.5"], ["--config", str(file)]):
        with pytest.raises(UserError) as caught:
            dispatch(["train", *words, "--dry-run"])
        assert caught.value.parameter == "model.generator.gate_bias"
