"""Parts of explore that need a run with checkpoints."""

import shutil
from pathlib import Path

import pytest
import torch

import vitgan
from refusals import refused
from tiny import newest, tiny_run
from vitgan.explore.attention import load_discriminator
from vitgan.explore.grow import grow
from vitgan.presets import replaced
from vitgan.runs.folder import config_of_run
from vitgan.training.checkpoint import checkpoints


@pytest.fixture(scope="module")
def run(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vitgan.train(tiny_run(store, total_kimg=0.016), tmp_path_factory.mktemp("run"))


def test_each_checkpoint_draws_the_same_latents(run: Path) -> None:
    ages = list(grow(run, count=3, seed=4))
    assert [age.name for age in ages] == [folder.name for folder in checkpoints(run)]
    assert len(ages) >= 2
    torch.testing.assert_close(ages[-1].images, vitgan.load(run).sample(3, seed=4))
    assert not torch.equal(ages[0].images, ages[-1].images)


def test_a_damaged_checkpoint_is_passed_over(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    whole = len(checkpoints(copy))
    (checkpoints(copy)[0] / "generator_ema.safetensors").write_bytes(b"")
    assert len(list(grow(copy, count=1))) == whole - 1


def test_no_checkpoints(tmp_path: Path) -> None:
    with refused(tmp_path):
        list(grow(tmp_path))


def test_the_attention_of_an_aligned_discriminator_needs_no_frozen_network(run: Path, tmp_path: Path) -> None:
    config = config_of_run(run)
    discriminator = replaced(config.model.discriminator, alignment_features="lite2", alignment_size=32)
    config = replaced(
        config,
        model=replaced(config.model, discriminator=discriminator),
        objective=replaced(config.objective, alignment=1.0),
        training=replaced(config.training, total_kimg=0.004),
    )
    aligned = vitgan.train(config, tmp_path)
    maps = load_discriminator(aligned).to("cpu").attention_maps(vitgan.load(aligned).sample(2))
    assert [m.shape for m in maps] == [(2, 2, 5, 5)]


def test_the_discriminators_attention(run: Path, tmp_path: Path) -> None:
    images = vitgan.load(run).sample(2)
    for path in (run, newest(run)):
        maps = load_discriminator(path).attention_maps(images)
        assert [m.shape for m in maps] == [(2, 2, 5, 5)]  # 2×2 patches and the class token
        torch.testing.assert_close(maps[0].sum(-1), torch.ones(2, 2, 5))
    model = vitgan.save(vitgan.load(run), tmp_path / "model")
    with refused(model, "vitgan export hub --networks"):
        load_discriminator(model)
