"""What each token attends to, in the generator and in the discriminator."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.models.build import build_discriminator, build_generator
from vitgan.models.generator import Generator, check_finite
from vitgan.models.scaled_discriminator import ScaledDiscriminator
from vitgan.models.vit_discriminator import ViTDiscriminator
from vitgan.models.vit_generator import ViTGenerator
from vitgan.pretrained.generators import load_networks, locate_networks, networks_config


@torch.inference_mode()
def generator_attention(generator: Generator, styles: Tensor) -> list[Tensor]:
    """Attention of each block while an image is made.

    Args:
        generator: A ViT generator.
        styles: (B, num_styles, w_dim).

    Returns:
        Per block (B, heads, L, L), rows are queries; a latent token ("prepend") is left out and rows may sum to less
        than 1.

    Raises:
        UserError: If the generator has no attention.
    """
    if not isinstance(generator, ViTGenerator):
        raise UserError("this generator has no attention to show: only ViT generators do")
    with generator.own_precision():
        _, maps = generator.tokens(styles, return_attention=True)
    length = generator.grid_size**2
    return [weights[..., -length:, -length:] for weights in maps]


def load_discriminator(name: str | Path) -> ViTDiscriminator:
    """The discriminator of a run (its newest whole checkpoint), a checkpoint, or a model that carries its networks.

    Returns:
        It on the CPU, in evaluation mode; of levels at several resolutions, the ViT that judges each.

    Raises:
        UserError: If there is none, it is no ViT and so has no attention, or it cannot be loaded.
    """
    weights = locate_networks(name)
    config = networks_config(weights)
    discriminator = build_discriminator(config, device="meta")
    network = discriminator.network if isinstance(discriminator, ScaledDiscriminator) else discriminator
    if not isinstance(network, ViTDiscriminator):
        raise UserError(f"the discriminator of {name} has no attention to show: only ViT discriminators do")
    load_networks(weights, build_generator(config.generator_spec(), device="meta"), discriminator)
    network.alignment = None  # attention has none of it, and its frozen network is still on "meta"
    return network.eval().requires_grad_(False)


def spread_queries(tokens: int) -> tuple[int, ...]:
    """The middle patch and one in each quarter of a square grid, each once."""
    side = round(tokens**0.5)
    low, high = side // 4, side - 1 - side // 4
    places = [(side // 2, side // 2), (low, low), (low, high), (high, low), (high, high)]
    return tuple(dict.fromkeys(row * side + column for row, column in places))


def attention_rows(image: Tensor, maps: list[Tensor], queries: Sequence[int | None]) -> list[list[Tensor]]:
    """The image (C, H, W) and what a query attends to in each block, mean over heads: a row for each query.

    Args:
        image: In [-1, 1].
        maps: Attention of one image in each block, (1, heads, N, N); tokens before the patches are in no picture.
        queries: Patches; None is the first token.

    Raises:
        UserError: If attention is not finite.
    """
    for attention in maps:
        check_finite(attention, "network")
    means = [attention[0].mean(0) for attention in maps]
    patches = round(len(means[0]) ** 0.5) ** 2  # a square, and at most one token beside
    before, colour = len(means[0]) - patches, image.expand(3, -1, -1)
    return [
        [colour, *(heat(mean[0 if query is None else query + before, before:], image, query) for mean in means)]
        for query in queries
    ]


def heat(weights: Tensor, image: Tensor, query: int | None) -> Tensor:
    """One attention row over its image.

    Args:
        weights: (L,), how much each patch is attended to.
        image: (C, H, W) in [-1, 1], seen in grey beneath.
        query: The patch that attends, outlined in cyan; None outlines nothing (the class token).

    Returns:
        (3, H', W') in [-1, 1], H' about 128: red where attention is large, scaled to the row's maximum.
    """
    side = round(len(weights) ** 0.5)
    enlarge = max(1, 128 // image.shape[-1])
    grey = image.mean(dim=0).repeat_interleave(enlarge, 0).repeat_interleave(enlarge, 1)
    cell = grey.shape[-1] // side
    strength = (weights / weights.max()).view(side, side).repeat_interleave(cell, 0).repeat_interleave(cell, 1)
    red, blue = torch.lerp(grey * 0.5, torch.ones_like(grey), strength), grey * 0.5 * (1 - strength) - strength
    shown = torch.stack([red, torch.lerp(grey * 0.5, -torch.ones_like(grey) * 0.2, strength), blue])
    if query is not None:
        outline(shown, query, cell, side)
    return shown.clamp(-1, 1)


def outline(image: Tensor, query: int, cell: int, side: int) -> None:
    """Draws the border of a patch into an image (3, H, W), in cyan, two pixels wide."""
    top, left = query // side * cell, query % side * cell
    patch = image[:, top : top + cell, left : left + cell]
    colour = torch.tensor([-1.0, 1.0, 1.0], device=image.device)[:, None, None]
    for border in (patch[:, :2], patch[:, -2:], patch[:, :, :2], patch[:, :, -2:]):
        border.copy_(colour.expand_as(border))
