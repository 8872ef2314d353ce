"""Directions of large change in style space, in closed form (SeFa: Shen & Zhou 2021).

A style enters the network through affine maps only. To first order an edit w + a n changes what they give by a A n, A being
their weights stacked; the unit directions n of largest ||A n|| are A's first right singular vectors.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.explore.latents import check_one
from vitgan.layers.linear import EqualizedLinear
from vitgan.layers.norm import SelfModulatedLayerNorm
from vitgan.layers.resample import ModulatedConv2d
from vitgan.models.draws import checked_count, checked_number, draw_latents
from vitgan.models.generator import Generator, check_finite
from vitgan.models.vit_generator import GeneratorBlock, ViTGenerator

SPREAD_SAMPLES = 2_000


class Directions(NamedTuple):
    """What `find_directions` returns.

    Attributes:
        vectors: (k, w_dim), orthonormal rows, strongest first; the largest entry of each is positive.
        strengths: (k,), ||A n||: how much the modulation changes per unit step.
    """

    vectors: Tensor
    strengths: Tensor


def modulation_weights(generator: Generator) -> Tensor:
    """All weights that a style is multiplied by, stacked: (rows, w_dim), float32.

    With latent tokens a style is w and z: a map of one of them has weights of 0 for the other.
    """
    of_w: list[nn.Module | None] = []
    of_z: list[nn.Module | None] = []
    for module in generator.modules():
        if isinstance(module, SelfModulatedLayerNorm):
            of_w += [module.gamma, module.beta]
        elif isinstance(module, ModulatedConv2d):
            of_w.append(module.affine)
        elif isinstance(module, GeneratorBlock):
            of_w.append(module.gates)
        elif isinstance(module, ViTGenerator):
            of_w.append(module.latent_embedding)
            of_z.append(module.token_embedding)
    rows = []
    for layer in (*of_w, *of_z):
        if isinstance(layer, EqualizedLinear):
            other = generator.w_dim - layer.in_features
            rows.append(F.pad(layer.effective_weight().detach().float(), (other, 0) if layer in of_z else (0, other)))
    return torch.cat(rows)


def find_directions(generator: Generator, count: int) -> Directions:
    """The `count` directions of largest change.

    Raises:
        UserError: If there are not that many, or a weight is not finite.
    """
    count = checked_count(count)
    if count > generator.w_dim:
        raise UserError(f"{count} directions: choose 1 to {generator.w_dim}, the size of a style", "count")
    # The Gram matrix is w_dim × w_dim however many layers there are; float64 keeps its eigenvectors orthonormal.
    a = modulation_weights(generator).double()
    check_finite(a)
    values, vectors = torch.linalg.eigh(a.T @ a)
    vectors = vectors.T.flip(0)[:count]
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return Directions((vectors * largest.sign()).float(), values.flip(0)[:count].clamp_min(0).sqrt().float())


@torch.inference_mode()
def style_spread(generator: Generator) -> float:
    """Root mean square distance of a style from the mean style, over 2,000 latents of a fixed seed."""
    z = draw_latents(SPREAD_SAMPLES, generator.z_dim, seed=1).to(generator.w_mean.device)
    w = generator.mapping(z, generator.labels(SPREAD_SAMPLES))
    return (w - w.mean(dim=0)).square().sum(dim=1).mean().sqrt().item()


@torch.inference_mode()
def edit(generator: Generator, styles: Tensor, directions: Directions, amounts: Sequence[float]) -> Tensor:
    """One style moved along each direction.

    Args:
        generator: The model.
        styles: (1, num_styles, w_dim), from `styles_of`.
        directions: From `find_directions`.
        amounts: Steps, in units of `style_spread`.

    Returns:
        (directions, amounts, num_styles, w_dim), for `render`; amount 0 is the plain style.

    Raises:
        UserError: If the styles are not those of one image, there are no amounts, or one is not finite.
    """
    check_one(generator, styles)
    if not amounts:
        raise UserError("no amounts were given: pass at least one", "amounts")
    finite = [checked_number(amount, "amounts") for amount in amounts]
    steps = torch.tensor(finite, dtype=styles.dtype, device=styles.device) * style_spread(generator)
    moves = directions.vectors.to(styles)[:, None] * steps[None, :, None]  # (directions, amounts, w_dim)
    return styles + moves.unsqueeze(2)
