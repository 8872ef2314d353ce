"""Where a token or a pixel is: learned sine features (ViTGAN), fixed sines and cosines, and rotary attention."""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.layers.linear import normal_
from vitgan.layers.precision import full_precision, wide

Positions = Literal["sine", "sincos"]

LONGEST_WAVE = 10_000
"""Of fixed features and of rotary attention, over 2 pi, in tokens (Vaswani et al. 2017; Su et al. 2021)."""


class FourierFeatures(nn.Module):
    """sin(W p + b) of positions p in [-1, 1]²: E_pos of tokens and E_fou of pixels (ViTGAN §3.3).

    W and b are learned. W starts normal with standard deviation `frequency` radians per unit of position and b
    uniform over the circle; the paper does not state the initialisation.
    """

    def __init__(self, dim: int, frequency: float) -> None:
        super().__init__()
        self.frequency = frequency
        self.weight = nn.Parameter(torch.empty(dim, 2))
        self.bias = nn.Parameter(torch.empty(dim))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        normal_(self.weight)
        self.bias.uniform_(-1, 1).mul_(math.pi)

    def forward(self, positions: Tensor) -> Tensor:
        """(..., 2) in [-1, 1] -> (..., dim) in [-1, 1], float32."""
        with full_precision(positions):
            weight, bias = self.weight.to(positions.dtype), self.bias.to(positions.dtype)
            return torch.sin(F.linear(positions, weight * self.frequency, bias))

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[0]}, frequency={self.frequency}"


class SinCosFeatures(nn.Module):
    """Fixed features of a place (x, y) of the token grid: sin(f x), cos(f x), sin(f y), cos(f y), a quarter of dim each.

    x and y count tokens, and the frequencies f fall geometrically from 1 towards 1 / LONGEST_WAVE (Vaswani et al. 2017, in
    two dimensions: MAE, DiT; GAT's G). Nothing is learned.
    """

    def __init__(self, dim: int, grid_size: int) -> None:
        super().__init__()
        self.dim, self.grid_size = dim, grid_size

    def forward(self, positions: Tensor) -> Tensor:
        """(L, 2) in [-1, 1] -> (L, dim) in [-1, 1], of the same type; computed in float32 or wider."""
        centres = wide(positions)
        places = ((centres + 1) * self.grid_size - 1) / 2  # (L, 2), cell centres are whole numbers
        phases = places.unsqueeze(2) * frequencies(self.dim // 4, centres)  # (L, 2, dim / 4)
        return torch.cat([phases.sin(), phases.cos()], dim=2).flatten(1).to(positions.dtype)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, grid_size={self.grid_size}"


def position_features(name: str, kind: Positions, dim: int, frequency: float, grid_size: int) -> nn.Module:
    """E_pos of a network's tokens: a module (L, 2) -> (L, dim).

    Raises:
        UserError: If the width cannot be shared out.
    """
    if kind == "sine":
        return FourierFeatures(dim, frequency)
    if dim % 4:
        raise UserError(f"{name}.dim {dim} is no multiple of 4, which {name}.positions sincos needs: choose one")
    return SinCosFeatures(dim, grid_size)


def frequencies(count: int, like: Tensor) -> Tensor:
    """LONGEST_WAVE^(-k / count) for k = 0 to count - 1: (count,), of the type and on the device of `like`."""
    return LONGEST_WAVE ** -(torch.arange(count, device=like.device, dtype=like.dtype) / count)


def rotated(x: Tensor, num_prefix_tokens: int = 0) -> Tensor:
    """Rotary positions in two dimensions (Su et al. 2021; GAT): (B, heads, N, d_h) -> the same, d_h a multiple of 4.

    The channels are pairs (k, k + d_h / 2). A token in column c and row r of the square map has the first half of its
    pairs turned by c f_k, the second by r f_k, so that a product or a distance of two tokens sees where they are to each
    other. Tokens before the map stay as they are. Angles and products are in float32 or wider.
    """
    prefix, tokens = x.split([num_prefix_tokens, x.shape[2] - num_prefix_tokens], dim=2)
    tokens = wide(tokens)
    places = torch.arange(math.isqrt(tokens.shape[2]), device=x.device, dtype=tokens.dtype)
    row, column = torch.meshgrid(places, places, indexing="ij")
    angles = torch.stack([column, row], dim=-1).flatten(0, 1).unsqueeze(2) * frequencies(x.shape[3] // 4, tokens)
    angles = angles.flatten(1)  # (N, d_h / 2)
    cos, sin = angles.cos(), angles.sin()
    a, b = tokens.chunk(2, dim=-1)
    turned = torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1).to(x.dtype)
    return torch.cat([prefix, turned], dim=2) if num_prefix_tokens else turned


def grid_positions(size: int, device: torch.device | str | None = None) -> Tensor:
    """Centres of a size×size grid of cells over [-1, 1]²: (size², 2), float32, row-major, (x, y) each.

    Cell centres, not corners: the positions of a finer grid then lie evenly inside those of a coarser one, which is what
    rendering an implicit patch at a higher resolution needs.
    """
    centres = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    return torch.stack([x, y], dim=-1).flatten(0, 1)
