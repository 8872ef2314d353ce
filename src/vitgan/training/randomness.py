"""All randomness of a training step as a function of (seed, purpose, step, row): nothing to save, nothing to restore.

The generator is SplitMix64 (Steele et al. 2014): number n of a stream is a hash of key + n · 0x9e3779b97f4a7c15. The key is
a hash of (seed, purpose), and n counts on from step · 2^36. So a process can draw its own rows of the global batch, on its
own device. N processes see the same images, latents and augmentations as one. All operations are on whole numbers, so that
every device computes the same. The step is a tensor on the device: a compiled step is the same code for every step.
"""

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from vitgan.training.augment import NUMBERS, AugmentConfig, AugmentParameters, parameters_of


class StepRandomness:
    """The random draws of one step, for the rows of the global batch that belong to this process."""

    def __init__(
        self, seed: int, step: int | Tensor, rank: int = 0, world_size: int = 1, device: torch.device | str = "cpu"
    ) -> None:
        """Draws nothing yet.

        Args:
            seed: The run's.
            step: Updates done, below 2^28; a tensor () of int64 is on the device.
            rank: Which of the equal parts of the global batch is meant.
            world_size: How many parts there are.
            device: Where to draw.
        """
        self.seed, self.rank, self.world_size, self.device = seed, rank, world_size, device
        # Tensors, filled on the device: a copy would wait for it, and a number would be a part of compiled code.
        self.step = step if isinstance(step, Tensor) else torch.full((), step, dtype=torch.int64, device=device)
        self.place = torch.full((), rank, dtype=torch.int64, device=device)

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        """Uniform in [0, 1) (B, ...), multiples of 2^-24 in torch's default type, B being this process's share."""
        return _unit(self._bits(purpose, math.prod(shape)) >> 40).view(shape)

    def normal(self, purpose: str, *shape: int) -> Tensor:
        """Standard normal (B, ...) in torch's default type, by Box and Muller (1958), B being this process's share."""
        columns = math.prod(shape[1:])
        pairs = -(-columns // 2)  # two numbers of each hash, and a row's all of the row's hashes
        bits = self._bits(purpose, shape[0] * pairs).view(shape[0], pairs)
        angle, radius = _unit(bits) * (2 * math.pi), (-2 * (1 - _unit(bits >> 40)).log()).sqrt()  # 1 - u is never 0
        both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
        return both[:, :columns].reshape(shape)

    def augmentation(
        self, purpose: str, config: AugmentConfig, count: int, resolution: int, probability: Tensor | None = None
    ) -> AugmentParameters:
        """Parameters of DiffAugment for this process's `count` images; `probability` as in `parameters_of`."""
        return parameters_of(self.uniform(purpose, count, NUMBERS), config, resolution, probability)

    def share(self, index: int, count: int) -> "StepRandomness":
        """The draws of the `index`-th of `count` equal parts of this process's rows: those of as many processes."""
        return type(self)(self.seed, self.step, self.rank * count + index, self.world_size * count, self.device)

    def _bits(self, purpose: str, count: int) -> Tensor:
        """The next `count` numbers of 64 bits after those of the rows before this process's: (count,) int64."""
        start = self.step * NUMBERS_PER_STEP + self.place * count
        return splitmix64(stream_key(self.seed, purpose), start, count, self.device)


NUMBERS_PER_STEP = 1 << 36


def stream_key(seed: int, purpose: str) -> int:
    """Where the stream of a purpose begins, 64 bits."""
    return int(np.random.SeedSequence([seed, zlib.crc32(purpose.encode())]).generate_state(1, np.uint64)[0])


def splitmix64(key: int, start: int | Tensor, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Numbers start, ..., start + count - 1 of the stream that begins at `key`: (count,), 64 bits each as int64.

    Arithmetic is modulo 2^64, as int64 has it; a shift to the right is arithmetic there, so that a mask follows it.
    """
    x = torch.arange(1, count + 1, device=device).add_(start).mul_(GOLDEN).add_(_signed(key))
    x.bitwise_xor_((x >> 30).bitwise_and_((1 << 34) - 1)).mul_(_signed(0xBF58476D1CE4E5B9))
    x.bitwise_xor_((x >> 27).bitwise_and_((1 << 37) - 1)).mul_(_signed(0x94D049BB133111EB))
    return x.bitwise_xor_((x >> 31).bitwise_and_((1 << 33) - 1))


def _signed(value: int) -> int:
    """`value` modulo 2^64 as the int64 of the same bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


GOLDEN = _signed(0x9E3779B97F4A7C15)


def _unit(bits: Tensor) -> Tensor:
    """The 24 lowest bits as a number in [0, 1), which float32 holds exactly."""
    return (bits & 0xFFFFFF).to(torch.get_default_dtype()).mul_(2.0**-24)
