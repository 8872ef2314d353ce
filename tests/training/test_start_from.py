"""A run that starts from another's weights has these and nothing else of it; what cannot start leaves nothing behind."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

import vitgan
from tiny import TINY_DISCRIMINATOR, newest, tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError
from vitgan.presets import replaced

NETWORKS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run to start from."""
    folder = tmp_path_factory.mktemp("first")
    prepare(ImageFolder(write_images(folder / "images")), folder / "store", resolution=8, workers=0)
    return vitgan.train(tiny_run(str(folder / "store"), total_kimg=0.012), folder / "runs")


def standing_still(first: Path, **changes: object) -> RunConfig:
    """A run of one step whose rates are too small to move a weight."""
    data = RunConfig.model_validate_json((first / "config.json").read_bytes()).data
    return replaced(tiny_run(data, total_kimg=0.004, learning_rate=1e-30), **changes)


def test_weights_are_those_of_the_other_run_and_counters_are_new(first: Path, tmp_path: Path) -> None:
    run = vitgan.train(standing_still(first, init_from=str(first)), tmp_path)
    assert newest(run).name == "000000k004"
    for name in (*NETWORKS, "generator_ema"):
        theirs = load_file(newest(first) / f"{name}.safetensors")
        ours = load_file(newest(run) / f"{name}.safetensors")
        learned = [key for key in theirs if key.endswith(("weight", "bias", "class_token"))]
        assert learned
        # The average takes one step towards G, as in any run.
        bound = 0 if name in NETWORKS else max((theirs[key] - ours[key]).abs().max().item() for key in learned)
        assert all((theirs[key] - ours[key]).abs().max() <= bound for key in learned), name
    moments = load_file(newest(run) / "optimizers.safetensors")
    assert all(value.eq(1).all() for key, value in moments.items() if key.endswith("/step"))


def test_a_model_carries_its_networks_in_half_precision(first: Path, tmp_path: Path) -> None:
    dispatch(["export", "hub", str(first), "--networks", "--storage", "float16", "--out", str(tmp_path / "model")])
    run = vitgan.train(standing_still(first, init_from=str(tmp_path / "model")), tmp_path)
    for name in NETWORKS:
        theirs = load_file(newest(first) / f"{name}.safetensors")
        ours = load_file(newest(run) / f"{name}.safetensors")
        for key in theirs:
            if key.endswith("weight"):
                assert (theirs[key] - ours[key]).abs().max() <= 2**-11 * theirs[key].abs().max(), (name, key)


def test_what_cannot_start_is_refused_and_leaves_nothing(first: Path, tmp_path: Path) -> None:
    dispatch(["export", "hub", str(first), "--out", str(tmp_path / "average alone")])
    wider = standing_still(first).model.model_copy(
        update={"discriminator": TINY_DISCRIMINATOR.model_copy(update={"dim": 32})}
    )
    for changes in (
        {"init_from": str(tmp_path / "average alone")},
        {"init_from": str(tmp_path / "nothing")},
        {"init_from": str(first), "model": wider},
    ):
        with pytest.raises(UserError):
            vitgan.train(standing_still(first, **changes), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_started_so_resumes_without_the_other(first: Path, tmp_path: Path) -> None:
    first_again = tmp_path / "first"
    first_again.symlink_to(first)
    config = standing_still(first, init_from=str(first_again))
    run = vitgan.train(config, tmp_path / "runs")
    first_again.unlink()
    longer = replaced(config, training=replaced(config.training, total_kimg=0.008))
    assert newest(vitgan.train(longer, resume=run)).name == "000000k008"
