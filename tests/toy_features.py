"""A cheap feature extractor and cheap images, for tests of everything around the networks."""

import numpy as np
import torch
from torch import Tensor

from vitgan.metrics.features import FeatureExtractor

DIMENSION, CLASSES, SIDE = 12, 5, 8


def toy_network(images: Tensor) -> tuple[Tensor, Tensor]:
    """A fixed random projection with a kink, and another for the logits."""
    rng = np.random.default_rng(7)
    pixels = images[:, :, :SIDE, :SIDE].flatten(1) / 255
    project = torch.from_numpy(rng.standard_normal((pixels.shape[1], DIMENSION + CLASSES)).astype(np.float32))
    values = pixels @ project
    return values[:, :DIMENSION].relu(), values[:, DIMENSION:]


def toy_extractor(name: str = "toy") -> FeatureExtractor:
    return FeatureExtractor(name, toy_network, DIMENSION, "0" * 64, "first pixels", torch.device("cpu"))


def toy_images(count: int, seed: int = 0) -> Tensor:
    """Smooth random patterns (count, 3, SIDE, SIDE) uint8."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (count, 3, 3, 3)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(SIDE, SIDE), mode="bilinear", align_corners=True)
    return smooth.round().to(torch.uint8)


def in_batches(images: Tensor, *sizes: int) -> list[Tensor]:
    """Images cut into batches of these sizes, taken in turn."""
    batches, start, turn = [], 0, 0
    while start < len(images):
        stop = start + sizes[turn % len(sizes)]
        batches.append(images[start:stop])
        start, turn = stop, turn + 1
    return batches
