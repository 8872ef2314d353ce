"""The implicit decoder is continuous in position: the same image at any density of pixels, and through any window."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.errors import UserError
from vitgan.explore.latents import check_one
from vitgan.layers.pixel_mapping import ImplicitPatchDecoder
from vitgan.models.draws import checked_count
from vitgan.models.generator import Generator, checked_images
from vitgan.models.vit_generator import ViTGenerator

PIXELS_AT_ONCE = 16_384


def implicit_generator(generator: Generator) -> tuple[ViTGenerator, ImplicitPatchDecoder]:
    """The generator and its decoder, if it is one that can zoom.

    Raises:
        UserError: If it is not.
    """
    decoder = generator.continuous_decoder if isinstance(generator, ViTGenerator) else None
    if generator.vae is not None:
        raise UserError("this generator cannot zoom: it makes latents, and its VAE decodes them at one size")
    if not isinstance(generator, ViTGenerator) or decoder is None:
        raise UserError(
            "this generator cannot zoom: only ViT generators with pixel_mapping inr are continuous, without summed levels"
        )
    return generator, decoder


@torch.inference_mode()
def zoom(generator: Generator, styles: Tensor, factor: int) -> Tensor:
    """Renders `factor` times as many pixels per axis, by denser coordinates.

    Args:
        generator: A ViT generator with an implicit decoder.
        styles: (B, num_styles, w_dim).
        factor: 1 is the plain image.

    Returns:
        (B, C, factor · H, factor · W), float32 in [-1, 1].

    Raises:
        UserError: If the generator cannot zoom, the factor is no whole number of at least 1, or the model makes numbers that
            are not finite.
    """
    model, decoder = implicit_generator(generator)
    factor = checked_count(factor, "factor")
    with model.own_precision():
        tokens, _ = model.tokens(styles)
        return checked_images(decoder(tokens, factor).float())


def bicubic(images: Tensor, factor: int) -> Tensor:
    """What an image program does instead: (B, C, H, W) -> (B, C, factor · H, factor · W), clipped to [-1, 1]."""
    return F.interpolate(images, scale_factor=factor, mode="bicubic", align_corners=False).clamp(-1, 1)


@torch.inference_mode()
def render_window(generator: Generator, styles: Tensor, centre: tuple[float, float], width: float, size: int) -> Tensor:
    """Renders a square window of one image at any scale.

    Args:
        generator: A ViT generator with an implicit decoder.
        styles: (1, num_styles, w_dim).
        centre: (x, y) in pixels of the plain image; the window is moved to lie inside the image.
        width: Side of the window in pixels of the plain image, any positive number up to the resolution.
        size: Side of the result in pixels.

    Returns:
        (1, C, size, size), float32 in [-1, 1]. Each pixel is the decoder's value at its centre.

    Raises:
        UserError: If the styles are not those of one image, the window or its size is none, the generator cannot zoom, or
            the model makes numbers that are not finite.
    """
    model, decoder = implicit_generator(generator)
    check_one(generator, styles)
    size = checked_count(size, "size")
    resolution, patch, grid = model.resolution, decoder.patch_size, decoder.grid_size
    if not 0 < width <= resolution:
        raise UserError(f"the window is {width} pixels wide: choose more than 0, {resolution} at most", "width")
    steps = (torch.arange(size, device=styles.device) + 0.5) * (width / size)
    left, top = (min(max(c - width / 2, 0.0), resolution - width) for c in centre)
    y, x = torch.meshgrid(top + steps, left + steps, indexing="ij")
    row, column = ((p / patch).floor().long().clamp(0, grid - 1) for p in (y, x))
    place = (row * grid + column).flatten()
    inside = torch.stack([x / patch - column, y / patch - row], dim=-1).flatten(0, 1) * 2 - 1
    pixels = []
    with model.own_precision():
        tokens, _ = model.tokens(styles)  # (1, L, dim)
        style1, style2 = decoder.modulation(tokens[0])  # (L, hidden) each
        for positions, token in zip(inside.split(PIXELS_AT_ONCE), place.split(PIXELS_AT_ONCE), strict=True):
            pixels.append(decoder.pixels(style1[token], style2[token], positions.unsqueeze(1))[:, 0])
    return checked_images(torch.cat(pixels).T.reshape(1, -1, size, size).float())


def zoom_frames(
    generator: Generator,
    styles: Tensor,
    frames: int = 60,
    largest: float = 8.0,
    size: int = 256,
    centre: tuple[float, float] | None = None,
) -> Iterator[Tensor]:
    """A smooth way into the image and back, ready to loop: `frames` frames (1, C, size, size).

    Args:
        generator: A ViT generator with an implicit decoder.
        styles: (1, num_styles, w_dim).
        frames: How many.
        largest: Magnification at the far end.
        size: Pixels of a frame.
        centre: Where to, in pixels; default the middle.

    Raises:
        UserError: With the first frame, see `render_window`; or if `frames` is no whole number of at least 1.
    """
    frames = checked_count(frames, "frames")
    resolution = generator.resolution
    for index in range(frames):
        # A raised cosine: it starts and turns gently, at even speed on a logarithmic scale between.
        amount = 0.5 - 0.5 * torch.cos(torch.tensor(2 * torch.pi * index / frames)).item()
        width = resolution / largest**amount
        yield render_window(generator, styles, centre or (resolution / 2, resolution / 2), width, size)
