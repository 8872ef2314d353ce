"""A run that starts from another's weights has these and nothing else of it; what cannot start leaves nothing behind."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

import vitgan
from refusals import refused
from tiny import TINY_DISCRIMINATOR, TINY_GENERATOR, newest, stop_after, tiny_run
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.presets import replaced, with_model
from vitgan.pretrained.transfer import start_from
from vitgan.training.hooks import Hooks

NETWORKS = ("generator", "discriminator")


@pytest.fixture(scope="module")
def first(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run to start from."""
    return vitgan.train(tiny_run(store, total_kimg=0.012), tmp_path_factory.mktemp("first"))


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


def test_a_script_without_callbacks_is_told_on_stderr(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run(store, total_kimg=0.004)
    run = vitgan.train(config, tmp_path)
    assert not capsys.readouterr().err
    vitgan.train(config, resume=run)
    (line,) = capsys.readouterr().err.splitlines()
    assert "training.total_kimg" in line
    for wrong in ({"preset": "quickstart"}, None, 5):
        with refused("vitgan.preset", parameter="config"):
            vitgan.train(wrong)  # type: ignore[arg-type]


def test_what_cannot_start_is_refused_and_leaves_nothing(first: Path, tmp_path: Path) -> None:
    dispatch(["export", "hub", str(first), "--out", str(tmp_path / "average alone")])
    one_head = with_model(standing_still(first), replaced(TINY_GENERATOR, num_heads=1)).model
    wide_d = with_model(standing_still(first), None, replaced(TINY_DISCRIMINATOR, dim=32)).model
    training = standing_still(first).training
    for changes, field in (
        ({"init_from": str(tmp_path / "average alone")}, None),
        ({"init_from": str(tmp_path / "nothing")}, None),
        ({"init_from": str(first), "model": one_head}, "model.generator.num_heads"),
        ({"init_from": str(first), "training": replaced(training, freeze_d=2)}, "training.freeze_d"),
        ({"init_from": str(first), "model": wide_d, "training": replaced(training, freeze_d=1)}, "training.freeze_d"),
        ({"training": replaced(training, freeze_d=1)}, "training.freeze_d"),
    ):
        with refused(parameter=field):
            vitgan.train(standing_still(first, **changes), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


def test_a_d_of_other_sizes_starts_anew_and_is_said_to(first: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    config = with_model(standing_still(first, init_from=str(first)), None, replaced(TINY_DISCRIMINATOR, dim=32))
    run = vitgan.train(config, tmp_path, hooks=Hooks(on_notice=lines.append))
    theirs = load_file(newest(first) / "generator.safetensors")
    ours = load_file(newest(run) / "generator.safetensors")
    assert all(theirs[key].equal(ours[key]) for key in theirs if key.endswith("weight"))
    assert len(lines) == 1
    assert all(fact in lines[0] for fact in ("discriminator.dim", " 16 ", " 32 "))


def test_frozen_blocks_of_d_stay_and_a_resume_is_exact(first: Path, tmp_path: Path) -> None:
    config = standing_still(first, init_from=str(first))
    discriminator = replaced(TINY_DISCRIMINATOR, depth=2)
    config = with_model(config, None, discriminator)
    source = vitgan.train(replaced(config, init_from=None), tmp_path)
    training = replaced(config.training, learning_rate=1e-3, freeze_d=1, total_kimg=0.012)
    config = replaced(config, init_from=str(source), training=training)
    whole = vitgan.train(config, tmp_path)
    parts = vitgan.train(config, tmp_path, hooks=stop_after(1))
    vitgan.train(config, resume=parts)
    theirs, ours = (load_file(newest(run) / "discriminator.safetensors") for run in (source, whole))
    frozen = ("class_token", "patch_embedding.", "position_embedding.", "blocks.0.")
    state = [key for key in theirs if "weight_norm" in key]  # spectral vectors go on
    for key in theirs.keys() - {*state}:
        assert theirs[key].equal(ours[key]) == key.startswith(frozen), key
    assert not all(theirs[key].equal(ours[key]) for key in state)
    moments = load_file(newest(whole) / "optimizers.safetensors")
    assert not any(key.removeprefix("discriminator/").startswith(frozen) for key in moments)
    for name in ("generator", "generator_ema", "discriminator", "optimizers"):
        a, b = (load_file(newest(run) / f"{name}.safetensors") for run in (whole, parts))
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a), name


def test_a_run_that_was_killed_before_its_first_checkpoint_starts_from_there_again(first: Path, tmp_path: Path) -> None:
    config = standing_still(first, init_from=str(first))
    run = vitgan.train(config, tmp_path)
    for name in ("checkpoints", "samples"):
        shutil.rmtree(run / name)
    (run / "metrics.jsonl").unlink()
    vitgan.train(config, resume=run)
    theirs, ours = (load_file(newest(which) / "generator.safetensors") for which in (first, run))
    assert all(theirs[key].equal(ours[key]) for key in theirs if key.endswith("weight"))


def test_a_run_that_started_so_resumes_without_the_other(first: Path, tmp_path: Path) -> None:
    first_again = tmp_path / "first"
    first_again.symlink_to(first)
    config = standing_still(first, init_from=str(first_again))
    run = vitgan.train(config, tmp_path / "runs")
    first_again.unlink()
    longer = replaced(config, training=replaced(config.training, total_kimg=0.008))
    assert newest(vitgan.train(longer, resume=run)).name == "000000k008"


def test_a_checkpoint_that_comes_meanwhile_changes_nothing(
    first: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other processes must not find a newer one than the main process did."""
    source = shutil.copytree(first, tmp_path / "source")
    found = str(newest(source))
    longer = vitgan.train(replaced(standing_still(first), init_from=str(source)), tmp_path)
    started: list[str] = []

    def start(name: str, *networks: object) -> list[str]:
        started.append(name)
        return start_from(name, *networks)  # pyright: ignore[reportArgumentType]

    def on_main_process(processes: object, action: Callable[[], object]) -> object:
        result = action()
        if result == found:
            shutil.copytree(newest(longer), source / "checkpoints" / "000001k000")
        return result

    monkeypatch.setattr("vitgan.runs.train.start_from", start)
    monkeypatch.setattr("vitgan.runs.train.on_main_process", on_main_process)
    vitgan.train(standing_still(first, init_from=str(source)), tmp_path)
    assert newest(source).name == "000001k000"
    assert started[-1] == found
