"""DiffAugment (Zhao et al. 2020): differentiable augmentation of what the discriminator sees, batched on any device.

ViTGAN (§3.2) uses translation, colour, cutout and scaling, each applied to an image with probability 0.8. Nothing is
drawn here. `parameters_of` turns uniform numbers into a batch's parameters; `augment` applies them. So the same
augmentation can be applied twice.
"""

from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from vitgan.layers.precision import full_precision
from vitgan.schema import Config


class AugmentConfig(Config):
    """Which operations, how likely and how strong; the ranges are DiffAugment's, that of scaling is ours."""

    probability: float = Field(default=0.8, ge=0, le=1)
    """Probability of each operation for each image (the paper's)."""
    adaptive: float | None = Field(default=None, gt=0, lt=1)
    """Target of adaptive augmentation (ADA, Karras et al. 2020), theirs is 0.6: the share of real images that D takes for
    real, less the share that it takes for fakes. The probability starts at 0, rises while D is surer than that, falls
    while it is less so, and `probability` is the most that it can be: until it rises, bCR has nothing to compare. None
    keeps it fixed."""
    adaptive_kimg: float = Field(default=500, gt=0)
    """Thousands of real images in which the probability can rise from 0 to 1 (ADA's); shorter runs need less."""
    translation: float = Field(default=0.125, ge=0, le=1)
    """Largest shift over the image size, in whole pixels, each axis; 0 is off."""
    color: bool = True
    """Brightness, saturation and contrast."""
    cutout: float = Field(default=0.5, ge=0, le=1)
    """Side of the square set to 0 (mid grey), over the image size; 0 is off."""
    scaling: float = Field(default=0.25, ge=0, lt=1)
    """Zoom by a factor in [1 / (1 + scaling), 1 + scaling], log-uniform; 0 is off."""


class AugmentParameters(NamedTuple):
    """What is done to each of B images; the neutral value leaves the image as it is."""

    brightness: Tensor
    """(B,), added; neutral 0."""
    saturation: Tensor
    """(B,), factor on the distance from the pixel's mean over channels; neutral 1."""
    contrast: Tensor
    """(B,), factor on the distance from the image's mean; neutral 1."""
    scale: Tensor
    """(B,), zoom about the centre, above 1 enlarges; neutral 1."""
    shift: Tensor
    """(B, 2), whole pixels to the right and down; neutral 0."""
    cutout_centre: Tensor
    """(B, 2), x and y of the first pixel to the right of and below the centre, infinite where nothing is cut."""


NUMBERS = 12
"""Uniform numbers that an image's parameters are made of."""


def parameters_of(
    uniform: Tensor, config: AugmentConfig, resolution: int, probability: float | Tensor | None = None
) -> AugmentParameters:
    """The parameters of B images of `resolution` pixels a side, from uniform numbers in [0, 1): (B, 12), on any device.

    `probability` is the adaptive one, a scalar; None takes the configuration's.
    """
    probability = config.probability if probability is None else probability
    color, scaled, shifted, cut = (uniform[:, :4] < probability).unbind(1)
    brightness, saturation, contrast, zoom = uniform[:, 4:8].unbind(1)
    reach = _pixels(config.translation, resolution)
    shift = torch.floor(uniform[:, 8:10] * (2 * reach + 1)) - reach
    # The square may hang over the border, as in DiffAugment; an even one has its centre between pixels, the border included.
    centre = torch.floor(uniform[:, 10:] * (resolution + 1 - _pixels(config.cutout, resolution) % 2))
    color, cut = color & config.color, cut & (config.cutout > 0)
    return AugmentParameters(
        brightness=torch.where(color, brightness - 0.5, 0.0),
        saturation=torch.where(color, saturation * 2, 1.0),
        contrast=torch.where(color, contrast + 0.5, 1.0),
        scale=torch.where(scaled, (1 + config.scaling) ** (zoom * 2 - 1), 1.0),
        shift=torch.where(shifted.unsqueeze(1), shift, 0.0),
        cutout_centre=torch.where(cut.unsqueeze(1), centre, torch.inf),
    )


def augment(images: Tensor, parameters: AugmentParameters, config: AugmentConfig) -> Tensor:
    """Applies drawn parameters: (B, C, H, W), or all levels (B, N, C, H, W) alike -> the same, differentiable twice over.

    Order: colour, scaling and translation, cutout. What comes in over the border is 0. Neutral parameters give back the
    very images, and autocast does not round them.
    """
    p = parameters
    with full_precision(images):
        images = adjust_color(images, p.brightness, p.saturation, p.contrast) if config.color else images
        images = scale_and_shift(images, p.scale, p.shift) if config.scaling or config.translation else images
        return cut_out(images, p.cutout_centre, config.cutout) if config.cutout else images


def adjust_color(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Brightness, then saturation, then contrast; each parameter (B,)."""
    brightness, saturation, contrast = (_each(p, images) for p in (brightness, saturation, contrast))
    images = images + brightness
    images = torch.lerp(images.mean(dim=-3, keepdim=True), images, saturation)
    return torch.lerp(images.mean(dim=(-3, -2, -1), keepdim=True), images, contrast)


def scale_and_shift(images: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Zooms by scale (B,) about the centre, then shifts by (B, 2) pixels (x, y); bilinear, 0 beyond the border.

    An axis-aligned bilinear resampling is separable: out = A_y X A_x^T with one small matrix of hat functions per image
    and axis. Two batched products replace a gather, and derivatives of every order exist.
    """
    rows = _each(_hat_matrix(images.shape[-2], scale, shift[:, 1]), images)  # (B, 1, H, H)
    columns = _each(_hat_matrix(images.shape[-1], scale, shift[:, 0]), images)  # (B, 1, W, W)
    return rows @ images @ columns.transpose(-2, -1)


def cut_out(images: Tensor, centre: Tensor, size: float) -> Tensor:
    """Sets a square of side `size` · resolution around each centre (B, 2) to 0."""
    side = _pixels(size, images.shape[-1])
    pixels = torch.arange(images.shape[-1], device=images.device)
    # First pixel of the square: centre - side // 2, so that exactly `side` pixels are covered away from the border.
    offset = pixels - (centre.unsqueeze(2) - side // 2)  # (B, 2, size)
    inside = (offset >= 0) & (offset < side)
    cut = inside[:, 1].unsqueeze(2) & inside[:, 0].unsqueeze(1)  # (B, H, W)
    return images.masked_fill(_each(cut, images), 0.0)


def _each(values: Tensor, images: Tensor) -> Tensor:
    """What each of B images has, (B, ...), with dimensions of 1 between, so that it applies to all of an image."""
    return values.view(len(values), *[1] * (images.ndim - values.ndim), *values.shape[1:])


def _pixels(share: float, resolution: int) -> int:
    """A share of the image size in pixels, halves up as in DiffAugment."""
    return int(share * resolution + 0.5)


def _hat_matrix(size: int, scale: Tensor, shift: Tensor) -> Tensor:
    """Weights (B, size, size) of source pixels for each output pixel: max(0, 1 - |source(i) - j|)."""
    pixels = torch.arange(size, device=scale.device, dtype=scale.dtype)
    centre = (size - 1) / 2
    source = (pixels - shift.unsqueeze(1) - centre) / scale.unsqueeze(1) + centre  # (B, size)
    return (1 - (source.unsqueeze(2) - pixels).abs()).clamp_min(0)
