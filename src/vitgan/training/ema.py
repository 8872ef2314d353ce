"""Exponential moving average of the generator's weights, with a half-life counted in images."""

import torch
from torch import Tensor, nn


def average_decay(batch_size: int, images_seen: int, half_life_images: float, warmup: float) -> float:
    """Share of the old average that stays after one batch: 0.5 ** (batch / half-life).

    While training is young the half-life is at most `warmup` times the images seen so far, so that the average forgets
    the initial weights (0 is no warm-up).
    """
    if warmup > 0:
        half_life_images = min(half_life_images, max(images_seen, 1) * warmup)
    return 0.5 ** (batch_size / max(half_life_images, 1e-8))


@torch.no_grad()
def update_average(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay · average + (1 - decay) · module for parameters; buffers are copied."""
    averages: list[Tensor] = [p.data for p in average.parameters()]
    current: list[Tensor] = [p.data for p in module.parameters()]
    torch._foreach_lerp_(averages, current, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
    if buffers := [*average.buffers()]:
        torch._foreach_copy_(buffers, [*module.buffers()])  # pyright: ignore[reportPrivateImportUsage]
