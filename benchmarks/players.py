"""What is measured: the library's trainer for a preset, and the naive baseline with the same weights."""

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tests.reference import naive
from torch import Tensor

from vitgan.config import RunConfig
from vitgan.devices import choose_precision, computes_bf16
from vitgan.models.build import ModelConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.presets import preset, replaced
from vitgan.training.augment import AugmentConfig
from vitgan.training.loop import Trainer
from vitgan.training.objective import ObjectiveConfig
from vitgan.training.randomness import StepRandomness

Precision = Literal["float32", "bf16"]
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}


def precisions() -> list[Precision]:
    """What this processor computes in."""
    return ["float32", "bf16"] if computes_bf16(cpu=True) else ["float32"]


def configuration(name: str, batch: int, precision: Precision = "float32", **training: object) -> RunConfig:
    """A preset with another batch and precision, on the CPU unless `device` is auto."""
    config = preset(name)
    changes: dict[str, object] = {"batch_size": batch, "precision": precision, "trackers": (), "device": "cpu"}
    return replaced(config, training=replaced(config.training, **(changes | training)))


def trainer_of(config: RunConfig) -> Trainer:
    """A trainer with new weights, on the configuration's device."""
    AcceleratorState._reset_state()
    cpu = config.training.device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(cpu=cpu, mixed_precision=choose_precision(config.training.precision, cpu))
    folder = Path(tempfile.gettempdir())
    return Trainer(config.model, config.objective, config.augment, config.training, accelerator, folder)


def real_images(model: ModelConfig, batch: int, device: torch.device | str = "cpu") -> Tensor:
    """Noise in the place of real images: a step takes as long."""
    return torch.rand(batch, model.channels, model.resolution, model.resolution, device=device) * 2 - 1


def steps(trainer: Trainer, batch: int | None = None) -> Callable[[], object]:
    """A function that takes one step after the other, of the configuration's batch or another."""
    accelerator, numbers = trainer.accelerator, itertools.count()
    processes, rank, device = accelerator.num_processes, accelerator.process_index, accelerator.device
    real = real_images(trainer.model, (batch or trainer.config.batch_size) // processes, device)
    return lambda: trainer.step(real, None, StepRandomness(0, next(numbers), rank, processes, device))


def is_the_papers(config: RunConfig) -> bool:
    """Whether the naive baseline, which knows the paper's recipe alone, takes the same step."""
    return config.objective == ObjectiveConfig() and config.augment == AugmentConfig() and has_naive_sizes(config.model)


def has_naive_sizes(model: ModelConfig) -> bool:
    """Whether both players are the paper's, of whatever size."""
    g, d = model.generator, model.discriminator
    return (
        isinstance(g, ViTGeneratorConfig)
        and isinstance(d, ViTDiscriminatorConfig)
        and (g.latent_mapping, g.pixel_mapping, d.attention, d.weight_norm) == ("sln", "inr", "l2", "isn")
        and (g.patch_size, g.num_heads) == (d.patch_size, d.num_heads)
    )


def naive_sizes(model: ModelConfig) -> naive.Sizes:
    """The sizes as the naive baseline takes them."""
    assert isinstance(model.generator, ViTGeneratorConfig)
    patch_size = model.generator.patch_size
    return naive.Sizes(model.resolution // patch_size, patch_size, model.generator.num_heads)


def naive_steps(trainer: Trainer, batch: int) -> Callable[[], object]:
    """The naive baseline's steps, in float32, from the trainer's weights."""
    state, sizes = trainer.state, naive_sizes(trainer.model)
    baseline = naive.NaiveTrainer(state.generator.state_dict(), state.discriminator.state_dict(), sizes)
    real, rng = real_images(trainer.model, batch), torch.Generator().manual_seed(0)
    z_dim = state.generator.z_dim
    return lambda: baseline.step(real, naive.draw(batch, z_dim, sizes.resolution, rng))
