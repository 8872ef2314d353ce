"""All randomness of a training step as a function of (seed, purpose, step): nothing to save, nothing to restore.

Every process draws for the whole global batch and keeps its own rows, so that N processes see the images, latents and
augmentations that one process would.
"""

import zlib

import numpy as np
import torch
from torch import Tensor

from vitgan.augment import AugmentConfig, AugmentParameters, draw


def seeded_generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """An independent CPU generator for each (seed, purpose, step)."""
    entropy = np.random.SeedSequence([seed, zlib.crc32(purpose.encode()), step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(entropy) & (2**63 - 1))


class StepRandomness:
    """The random draws of one step, for the rows of the global batch that belong to this process."""

    def __init__(self, seed: int, step: int, rank: int = 0, world_size: int = 1) -> None:
        self.seed, self.step, self.rank, self.world_size = seed, step, rank, world_size

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal (B, ...) float32 on the CPU, B being this process's share."""
        drawn = torch.randn(shape[0] * self.world_size, *shape[1:], generator=self._generator(purpose))
        return drawn[self._rows(shape[0])]

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform in [0, 1) (B, ...) float32 on the CPU, B being this process's share."""
        drawn = torch.rand(shape[0] * self.world_size, *shape[1:], generator=self._generator(purpose))
        return drawn[self._rows(shape[0])]

    def device_generator(self, purpose: str, device: torch.device) -> torch.Generator:
        """A generator on the device, different on each process, for noise too large to draw on the CPU."""
        seed = seeded_generator(self.seed, f"{purpose} of rank {self.rank}", self.step).initial_seed()
        return torch.Generator(device).manual_seed(seed)

    def augmentation(self, purpose: str, config: AugmentConfig, count: int, resolution: int) -> AugmentParameters:
        """Parameters of DiffAugment for this process's `count` images."""
        drawn = draw(config, count * self.world_size, resolution, self._generator(purpose))
        return drawn.rows(self._rows(count))

    def share(self, index: int, count: int) -> "StepRandomness":
        """The draws of the `index`-th of `count` equal parts of this process's rows: those of as many processes."""
        return type(self)(self.seed, self.step, self.rank * count + index, self.world_size * count)

    def _generator(self, purpose: str) -> torch.Generator:
        return seeded_generator(self.seed, purpose, self.step)

    def _rows(self, count: int) -> slice:
        return slice(self.rank * count, (self.rank + 1) * count)
