"""Inception weights and images out of seeds: 91 MB that need not be stored, with outputs that can be recorded."""

import zlib

import numpy as np
import torch
from torch import Tensor


def seeded_weights(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Weights for a state dict of these shapes, each out of its name alone, scaled so that signals stay alive."""
    weights = {}
    for name, shape in shapes.items():
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1)
            continue
        values = rng.standard_normal(tuple(shape), dtype=np.float32)
        if name.endswith("running_var"):
            values = 1 + 0.5 * np.abs(values)
        elif name.endswith("bn.weight"):
            values = 1 + 0.1 * values
        elif name.endswith("weight"):
            values *= np.float32((2 / np.prod(shape[1:])) ** 0.5)
        else:
            values *= np.float32(0.1)
        weights[name] = torch.from_numpy(values)
    return weights


def seeded_images() -> list[Tensor]:
    """uint8 RGB batches: small and square, not square, larger than the network's input."""
    rng = np.random.default_rng(0)
    shapes = ((3, 3, 32, 32), (1, 3, 64, 48), (1, 3, 320, 310))
    return [torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
