"""The models that come with the package are what their cards say."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitgan
from vitgan.files.pictures import enlargement, image_grid
from vitgan.models.build import build_discriminator, build_generator
from vitgan.models.vit_generator import ViTGenerator
from vitgan.pretrained.generators import load_networks, locate_networks, networks_config
from vitgan.pretrained.names import NETWORKS, bundled_models

MODELS = bundled_models()
MOST_BYTES = 12_000_000


@pytest.mark.parametrize("name", MODELS)
def test_the_cards_grid_is_what_the_model_draws(name: str) -> None:
    generator = vitgan.load(name)
    assert isinstance(generator, ViTGenerator)
    count, columns = generator.grid(64)
    images = generator.sample(count, seed=0)
    assert images.isfinite().all()
    assert images.std(dim=0).mean() > 0.1  # images differ from one another
    drawn = np.asarray(image_grid(images, columns, enlargement(generator.resolution)), dtype=int)
    shown = np.asarray(Image.open(MODELS[name] / "samples.png"), dtype=int)
    assert drawn.shape == shown.shape
    assert np.abs(drawn - shown).max() <= 2  # of 255: rounding on another processor


@pytest.mark.parametrize("name", MODELS)
def test_the_card_is_complete_and_the_model_small(name: str) -> None:
    folder: Path = MODELS[name]
    assert sum(path.stat().st_size for path in folder.iterdir()) < MOST_BYTES
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        "Protocol `",
        "FD-lite0",
        "## Training",
        "Preset `",
        "images drawn from",
        "hours of one processor",
        "Limits:",
        "license: mit\n",
        "pip install vitgan\n",
    ):
        assert part in card, f"{name}'s card lacks {part!r}"


def test_networks_that_are_carried_are_of_the_sizes_beside_them() -> None:
    carrying = [name for name, folder in MODELS.items() if (folder / NETWORKS).exists()]
    assert "cifar10" in carrying
    for name in carrying:
        weights = locate_networks(name)
        config = networks_config(weights)
        generator, discriminator = build_generator(config.generator_spec(), device="meta"), build_discriminator(config)
        load_networks(weights, generator, discriminator)
        assert config.generator_spec() == vitgan.load(name).spec


def test_the_models_that_documents_name_are_there() -> None:
    assert {"cifar10", "fashion-mnist", "heads"} <= set(MODELS)
