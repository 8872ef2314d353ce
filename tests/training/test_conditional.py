"""Class-conditional training: labels reach both players, every pair of players can do it, and sampling chooses a class."""

from pathlib import Path

import pytest
import torch

import vitgan
from tiny import newest, tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    for name in ("cat", "dog", "fox"):
        write_images(folder / "images" / name, 4)
    prepare(ImageFolder(folder / "images"), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


@pytest.mark.parametrize("generator", ["vit", "stylegan2"])
@pytest.mark.parametrize("discriminator", ["vit", "stylegan2"])
def test_conditional_training_and_sampling(store: str, tmp_path: Path, generator: str, discriminator: str) -> None:
    config = tiny_run(store, total_kimg=0.008)
    changes: dict[str, object] = {"conditional": True}
    if generator == "stylegan2":
        changes["generator"] = StyleGAN2GeneratorConfig(channel_base=64, z_dim=8, w_dim=8, mapping_layers=2)
    if discriminator == "stylegan2":
        changes["discriminator"] = StyleGAN2DiscriminatorConfig(channel_base=64, label_mapping_layers=1)
    config = config.model_copy(update={"model": config.model.model_copy(update=changes)})
    run = vitgan.train(config, tmp_path)
    trained = vitgan.load(run)
    assert trained.num_classes == 3
    z = torch.randn(1, trained.z_dim, generator=torch.Generator().manual_seed(0)).expand(3, -1)
    images = trained(z, torch.arange(3))
    assert not torch.allclose(images[0], images[1])
    assert trained.sample(2, labels=torch.tensor([1, 1])).shape == (2, 3, 8, 8)
    longer = config.model_copy(update={"training": config.training.model_copy(update={"total_kimg": 0.012})})
    vitgan.train(longer, resume=run)
    assert newest(run).name == "000000k012"


def test_sample_chooses_a_class_or_says_why_not(store: str, tmp_path: Path) -> None:
    config = tiny_run(store, total_kimg=0.004)
    model = config.model.model_copy(update={"conditional": True})
    run = vitgan.train(config.model_copy(update={"model": model}), tmp_path)
    dispatch(["sample", str(run), "--count", "2", "--label", "2", "--grid", str(tmp_path / "grid.png")])
    with pytest.raises(UserError, match="choose 0 to 2"):
        dispatch(["sample", str(run), "--label", "3"])
    unconditional = vitgan.train(config, tmp_path)
    with pytest.raises(UserError, match="unconditional"):
        dispatch(["sample", str(unconditional), "--label", "1"])


def test_images_without_labels_are_refused(tmp_path: Path) -> None:
    images = ImageFolder(write_images(tmp_path / "images"))
    prepare(images, tmp_path / "store", resolution=8, workers=0)
    config = tiny_run(str(tmp_path / "store"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"conditional": True})})
    with pytest.raises(UserError, match="have no labels"):
        vitgan.train(config, tmp_path / "runs")
