"""Images of several levels from one generator: what D is shown of fakes and, in the same way, of real images.

    summed (GAT)   x_i = heads 1 to i summed + noise that falls from level to level; all levels are D's channels
    scaled (CAT)   x_i = the i-th head's image at 1 / 2^(N - i) of the resolution; D judges each level on its own

The last level is the image. Levels are one tensor (B, N, C, H, W). A level of lower resolution has blocks of equal pixels
in it. So augmentation and penalties work the same for all levels, and for a plain (B, C, H, W).
A penalty at half the resolution is then a quarter: gamma falls with the number of pixels, as StyleGAN2's does.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.models.generator import Noise

LevelKind = Literal["summed", "scaled"]


def shown(levels: Tensor, kind: LevelKind, noise: Noise | None = None) -> Tensor:
    """What D is shown of the images of each level: (B, N, C, H, W) -> the same. Without `noise` none is added."""
    if kind == "scaled":
        each = zip(levels.unbind(1), halvings_of(levels), strict=True)
        return torch.stack([block_means(image, 2**halvings) for image, halvings in each], dim=1)
    return levels if noise is None else levels + accumulated(noise("levels", *levels.shape))


def halvings_of(levels: Tensor) -> range:
    """How often the resolution of each level of (B, N, C, H, W) is halved: N - 1, ..., 1, 0."""
    return range(levels.shape[1] - 1, -1, -1)


def block_means(images: Tensor, side: int) -> Tensor:
    """The mean of each block of side×side pixels in its place: (B, C, H, W) -> the same."""
    if side == 1:
        return images
    return F.interpolate(F.avg_pool2d(images, side), scale_factor=side, mode="nearest")


def noise_deviations(count: int) -> list[float]:
    """Of N >= 2 levels, first to last: 1 - 0.125^(1 - i / (N - 1)) + 0.01 (GAT's MNG), from 0.885 to 0.01."""
    return [1 - 0.125 ** (1 - i / (count - 1)) + 0.01 for i in range(count)]


def accumulated(noise: Tensor) -> Tensor:
    """Independent standard normal (B, N, C, H, W) -> noise of the levels' standard deviations, the same shape.

    From the last level to the first each adds to the one after it what its own deviation lacks, so that a less noisy level
    is a cleaner version of the noisier one.
    """
    deviations = [*noise_deviations(noise.shape[1]), 0.0]
    total, levels = torch.zeros_like(noise[:, 0]), []
    for i in reversed(range(noise.shape[1])):
        total = total + math.sqrt(deviations[i] ** 2 - deviations[i + 1] ** 2) * noise[:, i]
        levels.append(total)
    return torch.stack(levels[::-1], dim=1)
