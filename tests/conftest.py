"""What all tests share: one thread for torch, and models small enough to be built in every test."""

import os
import signal

# Before torch is imported anywhere: tiny tensors gain nothing from threads, and results do not depend on their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from tiny import write_images
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.models.build import ModelConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig


def pytest_configure() -> None:
    """Some tests send SIGHUP, which is ignored under nohup."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def tiny_model() -> ModelConfig:
    """Both players with every size different: 12×12 RGB images, patches of 4 (9 tokens), two blocks, two heads."""
    return ModelConfig(
        resolution=12,
        channels=3,
        generator=ViTGeneratorConfig(
            dim=8, depth=2, num_heads=2, mlp_ratio=2, patch_size=4, z_dim=6, w_dim=5, mapping_layers=2, inr_dim=7
        ),
        discriminator=ViTDiscriminatorConfig(dim=8, depth=2, num_heads=2, mlp_ratio=2, patch_size=4),
    )


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of twelve colour images of 8×8 that many train on; nobody changes it."""
    folder = tmp_path_factory.mktemp("data")
    prepare(ImageFolder(write_images(folder / "images")), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


@pytest.fixture(scope="session")
def labelled_store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same of three classes, four images each."""
    folder = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(("cat", "dog", "fox")):
        write_images(folder / "images" / name, 4, seed=seed)
    prepare(ImageFolder(folder / "images"), folder / "store", resolution=8, workers=0)
    return str(folder / "store")
