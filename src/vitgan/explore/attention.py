"""What each token attends to, in the generator and in the discriminator."""

from pathlib import Path

import torch
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files import read_model
from vitgan.files.tensors import load_weights
from vitgan.models.build import ModelConfig, build_discriminator
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.models.vit_generator import ViTGenerator
from vitgan.pretrained.names import run_of_checkpoint
from vitgan.training.checkpoint import latest_checkpoint


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
    _, maps = generator.tokens(styles, return_attention=True)
    length = generator.grid_size**2
    return [weights[..., -length:, -length:] for weights in maps]


@torch.inference_mode()
def discriminator_attention(discriminator: Discriminator, images: Tensor) -> list[Tensor]:
    """Attention of each block while images (B, C, H, W) are judged: (B, heads, 1 + L, 1 + L), the class token first.

    Raises:
        UserError: If the discriminator has no attention.
    """
    maps = discriminator.attention_maps(images)
    if not maps:
        raise UserError("this discriminator has no attention to show: only ViT discriminators do")
    return maps


def load_discriminator(path: Path) -> Discriminator:
    """The discriminator of a run (its newest whole checkpoint) or of a checkpoint, in evaluation mode.

    Raises:
        UserError: If there is none: a model folder holds the generator only.
    """
    run = run_of_checkpoint(path)
    checkpoint = latest_checkpoint(path) if run is None else path
    if checkpoint is None or not (checkpoint / "discriminator.safetensors").is_file():
        raise UserError(
            f"{path} has no discriminator: pass a run or a checkpoint, a model folder holds the generator only"
        )
    config = read_model((run or path) / "config.json", ModelConfig, "run", ("model",))
    discriminator = build_discriminator(config, device="meta")
    load_weights(discriminator, checkpoint / "discriminator.safetensors")
    return discriminator.eval().requires_grad_(False)


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
