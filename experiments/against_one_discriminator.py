"""A ViT and StyleGAN2's generator against the same D on frozen features, with the same schedule.

    python experiments/against_one_discriminator.py --row stylegan2-projected --seed 0

The rows are those of `vitgan ablate pairs`; the schedule is that of nine minutes in docs/results/images.md.
"""

from typing import Literal

import tyro

import vitgan
from vitgan.ablation.suites import SUITES
from vitgan.config import changed
from vitgan.presets import preset


def against_one_discriminator(
    row: Literal["projected", "stylegan2-projected"], seed: int = 0, kimg: float = 34, out: str = "runs/one-d"
) -> None:
    """Trains one of the two generators.

    Args:
        row: Which generator.
        seed: Seed of the run.
        kimg: Its length in thousands of images; over the last 60% the rates fall to 0.
        out: Folder of the runs.
    """
    schedule = {
        "data": "data/cifar10",
        "training.total_kimg": kimg,
        "training.lr_decay": 0.6,
        "training.ema_half_life_images": 5_000,
        "training.seed": seed,
        "training.checkpoint_every_kimg": 5,
        "objective.classification": 0.0,  # as when the table was made
    }
    config = changed(SUITES["pairs"].rows[row](preset("cifar10-tiny")), schedule)
    print(vitgan.train(config, f"{out}/{row}-{seed}"))


if __name__ == "__main__":
    tyro.cli(against_one_discriminator)
