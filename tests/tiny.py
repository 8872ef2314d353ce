"""Configurations small enough for a test to train, and images for them."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from vitgan.config import RunConfig
from vitgan.models.build import ModelConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.presets import replaced
from vitgan.training.checkpoint import latest_checkpoint
from vitgan.training.config import TrainingConfig
from vitgan.training.hooks import Hooks

TINY_GENERATOR = ViTGeneratorConfig(
    dim=16, depth=1, num_heads=2, z_dim=8, w_dim=8, mapping_layers=2, inr_dim=8, mlp_ratio=2
)
TINY_DISCRIMINATOR = ViTDiscriminatorConfig(dim=16, depth=1, num_heads=2, mlp_ratio=2)


def tiny_model(channels: int = 3, resolution: int = 8) -> ModelConfig:
    """Both players in the paper's form, a few thousand parameters."""
    return ModelConfig(
        resolution=resolution, channels=channels, generator=TINY_GENERATOR, discriminator=TINY_DISCRIMINATOR
    )


def few_blocks(model: ModelConfig) -> ModelConfig:
    """The model with two blocks in each ViT, or one for each level: more are the same again."""
    networks = {"generator": model.generator, "discriminator": model.discriminator}
    shorter = {
        name: replaced(network, depth=max(2, getattr(network, "num_levels", 1)))
        for name, network in networks.items()
        if network.kind == "vit"
    }
    return replaced(model, **shorter)


def tiny_run(data: str, **training: object) -> RunConfig:
    """The paper's recipe on tiny players: batch 4, 24 images, a checkpoint after every 8."""
    settings: dict[str, object] = {
        "batch_size": 4,
        "total_kimg": 0.024,
        "checkpoint_every_kimg": 0.008,
        "samples_every_kimg": 0.008,
        "log_every_kimg": 0.004,
        "sample_count": 4,
        "precision": "float32",
        "device": "cpu",
        "trackers": (),
    }
    return RunConfig(data=data, model=tiny_model(), training=TrainingConfig.model_validate(settings | training))


def stop_after(steps: int) -> Hooks:
    """Asks a run to stop after so many steps."""
    counted = iter(range(1, 1_000_000))
    return Hooks(should_stop=lambda: next(counted) >= steps)


def newest(run: Path) -> Path:
    """The newest whole checkpoint, which must be there."""
    checkpoint = latest_checkpoint(run)
    assert checkpoint is not None
    return checkpoint


# The same sizes as command-line overrides of a preset.
TINY_OVERRIDES = """
--model.resolution 8
--model.generator.dim 16 --model.generator.depth 1 --model.generator.num-heads 2 --model.generator.inr-dim 8
--model.discriminator.dim 16 --model.discriminator.depth 1 --model.discriminator.num-heads 2
--training.batch-size 4 --training.total-kimg 0.012 --training.sample-count 4
--training.log-every-kimg 0.004 --training.checkpoint-every-kimg 0.008
""".split()  # noqa: SIM905 - as a person would type them


def write_images(folder: Path, count: int = 12, size: int = 10, seed: int = 0) -> Path:
    """A folder of `count` small colour PNGs, different from one another."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for index in range(count):
        pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02d}.png")
    return folder


def write_vae(folder: Path, seed: int = 0, blocks: int = 2, **config: Any) -> Path:
    """An AutoencoderKL of 4 channels as diffusers writes it, random weights: two pixels a latent with two blocks."""
    from diffusers import AutoencoderKL  # pyright: ignore[reportPrivateImportUsage]

    kind: Any = AutoencoderKL
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = kind(
            block_out_channels=(8,) * blocks,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            layers_per_block=1,
            norm_num_groups=4,
            **{"latent_channels": 4, "scaling_factor": 0.5, "shift_factor": 0.1} | config,
        )
    network.save_pretrained(folder)
    return folder
