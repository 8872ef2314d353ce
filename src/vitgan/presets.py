"""Presets: one function per row, and the table that names them. A docstring says what it is and what it needs."""

import difflib
from collections.abc import Callable

from vitgan.augment import AugmentConfig
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.models.build import ModelConfig
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.training.loop import TrainingConfig
from vitgan.training.phases import ObjectiveConfig


def quickstart() -> RunConfig:
    """A small ViTGAN on the bundled Fashion-MNIST images: minutes on 2 CPU cores."""
    return RunConfig(
        data="fashion-mnist",
        model=ModelConfig(
            resolution=32,
            channels=1,
            generator=ViTGeneratorConfig(
                dim=96, depth=2, num_heads=3, z_dim=96, w_dim=96, mapping_layers=2, inr_dim=96
            ),
            discriminator=ViTDiscriminatorConfig(dim=96, depth=2, num_heads=3),
        ),
        objective=FAST_OBJECTIVE,
        training=TrainingConfig(
            batch_size=32,
            total_kimg=45,
            max_minutes=5.5,
            learning_rate=0.008,
            discriminator_learning_rate=0.003,
            samples_every_kimg=5,
            checkpoint_every_kimg=15,
            ema_half_life_images=1_000,
        ),
    )


def cifar10_tiny() -> RunConfig:
    """A small ViTGAN for CIFAR-10 at its real size: hours on a CPU."""
    return RunConfig(
        data="data/cifar10",
        model=ModelConfig(
            resolution=32,
            channels=3,
            generator=ViTGeneratorConfig(
                dim=128, depth=3, num_heads=4, z_dim=128, w_dim=128, mapping_layers=2, inr_dim=128
            ),
            discriminator=ViTDiscriminatorConfig(dim=128, depth=3, num_heads=4),
        ),
        objective=FAST_OBJECTIVE,
        training=TrainingConfig(
            batch_size=32,
            total_kimg=500,
            learning_rate=0.006,
            discriminator_learning_rate=0.003,
            samples_every_kimg=10,
            checkpoint_every_kimg=20,
            ema_half_life_images=2_000,
            horizontal_flip=True,
        ),
    )


def cifar10() -> RunConfig:
    """The paper's ViTGAN at 32×32 (CIFAR-10: FID 6.66, IS 9.30). Needs a GPU for days; not yet run by us."""
    return _paper("data/cifar10", resolution=32, depth=4, patch_size=4)


def celeba64() -> RunConfig:
    """The paper's ViTGAN at 64×64 on CelebA. Needs a GPU for days; not yet run by us."""
    return _paper("data/celeba64", resolution=64, depth=6, patch_size=8)


def lsun64() -> RunConfig:
    """The paper's ViTGAN at 64×64 on LSUN bedroom. Needs a GPU for days; not yet run by us."""
    return _paper("data/lsun64", resolution=64, depth=6, patch_size=8)


def lsun128() -> RunConfig:
    """The paper's ViTGAN at 128×128 on LSUN bedroom (sizes are [choice]). Needs GPUs for days; not yet run by us."""
    return _paper("data/lsun128", resolution=128, depth=6, patch_size=8)


FAST_OBJECTIVE = ObjectiveConfig(
    loss="relativistic",
    diffaugment=False,
    bcr_real=0,
    bcr_fake=0,
    r1_gamma=0.02,
    r2_gamma=0.02,
    penalty="finite_difference",
)
"""What starts fastest on a CPU: relativistic pairing with first-order R1 and R2 (R3GAN, GAT) in place of the paper's
non-saturating loss with bCR, whose lambda of 10 suits hundreds of thousands of steps, not thousands."""


def _paper(data: str, resolution: int, depth: int, patch_size: int) -> RunConfig:
    """The paper's model and recipe: 384 wide, 6 heads, bCR 10/10, DiffAugment, batch 128, learning rate 0.002."""
    return RunConfig(
        data=data,
        model=ModelConfig(
            resolution=resolution,
            channels=3,
            generator=ViTGeneratorConfig(depth=depth, patch_size=patch_size),
            discriminator=ViTDiscriminatorConfig(depth=depth, patch_size=patch_size),
        ),
        objective=ObjectiveConfig(),
        augment=AugmentConfig(),
        training=TrainingConfig(batch_size=128, learning_rate=0.002),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "quickstart": quickstart,
    "cifar10-tiny": cifar10_tiny,
    "cifar10": cifar10,
    "celeba64": celeba64,
    "lsun64": lsun64,
    "lsun128": lsun128,
}


def preset(name: str) -> RunConfig:
    """The preset of that name, its name written into it.

    Raises:
        UserError: If there is none, with the nearest name.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise UserError(f"unknown preset {name!r}: {hint}presets are {', '.join(PRESETS)}")
    return PRESETS[name]().model_copy(update={"preset": name})


def summary(name: str) -> str:
    """The preset's docstring on one line."""
    return " ".join((PRESETS[name].__doc__ or "").split())
