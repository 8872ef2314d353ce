"""Metrics of the pixels themselves: seams between patches, texture that repeats, and the spectrum.

Networks of features hardly look at a few grey levels of fine grain; an eye sees at once that they are a grid. All three
metrics are about *fine detail*, an image minus its 1-2-1 blur, or about powers of frequencies, and need no network.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

ROUNDING = 1 / 12
"""Variance of rounding to whole grey levels. It is added to every power, so that flat images have finite figures; real
images have a thousand times as much."""


def high_pass(images: Tensor) -> Tensor:
    """What a blur by 1-2-1 in both directions takes away: (B, C, H, W) in grey levels -> the same shape, float64.

    Outside the image its reflection is taken.
    """
    x = images.double()
    padded = F.pad(x, (1, 1, 1, 1), mode="reflect")
    rows = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    return x - (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 16


def in_patches(images: Tensor, patch_size: int) -> Tensor:
    """(B, C, H, W) -> (B, C, rows, P, columns, P); what is left at the right and below is cut off."""
    rows, columns = images.shape[-2] // patch_size, images.shape[-1] // patch_size
    whole = images[..., : rows * patch_size, : columns * patch_size]
    return whole.unflatten(-1, (columns, patch_size)).unflatten(-3, (rows, patch_size))


def power_in_patch(detail: Tensor, patch_size: int) -> Tensor:
    """Mean square of fine detail (B, C, H, W) by position inside the patch: (P, P).

    Patches at the image's border are left out where there are others: detail is another there.
    """
    patches = in_patches(detail, patch_size)
    if patches.shape[2] > 2 and patches.shape[4] > 2:
        patches = patches[:, :, 1:-1, :, 1:-1]
    return patches.square().mean(dim=(0, 1, 2, 4))


def seam(power: Tensor) -> float:
    """The largest over the smallest of `power_in_patch`: 1 where patches have no borders, more where they show."""
    power = power + ROUNDING
    return (power.max() / power.min()).item()


def repeat_share(detail: Tensor, patch_size: int) -> Tensor:
    """The part of each image's fine detail that repeats from patch to patch: (B, C, H, W) -> (B,) in [0, 1].

    It is the energy of the mean P×P×C tile over that of all patches; 0 without any detail. Independent patches have 1
    over their number.
    """
    patches = in_patches(detail, patch_size)
    repeated = patches.mean(dim=(2, 4)).square().mean(dim=(1, 2, 3))
    return repeated / patches.square().mean(dim=(1, 2, 3, 4, 5)).clamp_min(torch.finfo(torch.float64).tiny)


def radial_spectrum(images: Tensor) -> Tensor:
    """Power at each radius of frequency in dB, averaged over directions and channels: (B, C, H, W) -> (B, radii).

    Radii are whole cycles per image side from 1 to the corner of the plane of frequencies. A Hann window keeps the
    jump between opposite borders from covering the faint high frequencies. Images are square, in grey levels.
    """
    size = images.shape[-1]
    x = images.double()
    x = x - x.mean(dim=(2, 3), keepdim=True)
    row = torch.hann_window(size, periodic=False, dtype=torch.float64, device=x.device)
    window = row[:, None] * row
    power = torch.fft.fft2(x * window).abs().square().mean(dim=1) / window.square().sum()
    frequency = torch.fft.fftfreq(size, 1 / size, dtype=torch.float64, device=x.device)
    radius = frequency[:, None].hypot(frequency).round().long().flatten()
    sums = power.new_zeros(len(power), int(radius.max()) + 1).index_add_(1, radius, power.flatten(1))
    return 10 * (sums / radius.bincount() + ROUNDING)[:, 1:].log10()


def spectrum_distance(first: Tensor, second: Tensor) -> float:
    """Root mean square difference in dB, over radii, of two mean spectra (radii,)."""
    return (first - second).square().mean().sqrt().item()


class TextureStatistics:
    """All that these metrics need to know of a set of images, in constant memory; mergeable.

    Args:
        patch_size: P of the patches that seams and repeated tiles are looked for in.

    Attributes:
        count: Images seen.
    """

    def __init__(self, patch_size: int) -> None:
        self.patch_size = patch_size
        self.count = 0
        self._sums: tuple[Tensor, ...] = ()

    def update(self, images: Tensor) -> None:
        """Adds images (B, C, H, W) uint8, square; of one size in all calls."""
        detail = high_pass(images.cpu())
        power = power_in_patch(detail, self.patch_size) * len(images)
        repeated, spectrum = repeat_share(detail, self.patch_size).sum(), radial_spectrum(images.cpu()).sum(dim=0)
        self._add(len(images), (power, repeated, spectrum))

    def watching(self, batches: Iterable[Tensor], places: np.ndarray) -> Iterator[Tensor]:
        """Passes batches on and adds the images at these places of the stream, sorted (n,) int64."""
        start = 0
        for batch in batches:
            first, last = np.searchsorted(places, (start, start + len(batch)))
            if first < last:
                self.update(batch[torch.from_numpy(places[first:last] - start)])
            start += len(batch)
            yield batch

    def merge(self, other: "TextureStatistics") -> None:
        """Adds what another stream has seen."""
        self._add(other.count, other._sums)

    def _add(self, count: int, sums: tuple[Tensor, ...]) -> None:
        if count:
            self.count += count
            self._sums = tuple(a + b for a, b in zip(self._sums, sums, strict=True)) if self._sums else sums

    @property
    def seam(self) -> float:
        """See `seam`."""
        return seam(self._sums[0] / self.count)

    @property
    def repeat_share(self) -> float:
        """Mean over images of `repeat_share`."""
        return (self._sums[1] / self.count).item()

    @property
    def spectrum(self) -> Tensor:
        """Mean of `radial_spectrum`: (radii,) in dB."""
        return self._sums[2] / self.count
