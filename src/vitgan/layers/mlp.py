"""The feed-forward part of a transformer block."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedLinear, side_by_side
from vitgan.layers.spectral import WeightNorm

MlpKind = Literal["gelu", "swiglu"]


class Mlp(nn.Module):
    """Two linear layers with GELU between them (the ViT's), or SwiGLU (Shazeer 2020): W_2 (silu(W_g x) ⊙ W_1 x).

    SwiGLU's hidden layer is 2/3 as wide, so that both kinds have the same number of weights.
    """

    def __init__(
        self,
        dim: int,
        mlp_ratio: float,
        kind: MlpKind = "gelu",
        weight_norm: WeightNorm = "none",
        equalized: bool = True,
    ) -> None:
        super().__init__()
        hidden = hidden_width(dim, mlp_ratio, kind)
        self.mlp_in = EqualizedLinear(dim, hidden, equalized=equalized, weight_norm=weight_norm)
        self.gate = (
            EqualizedLinear(dim, hidden, equalized=equalized, weight_norm=weight_norm) if kind == "swiglu" else None
        )
        self.mlp_out = EqualizedLinear(hidden, dim, equalized=equalized, weight_norm=weight_norm)

    def forward(self, x: Tensor) -> Tensor:
        """(..., dim) -> (..., dim)."""
        return self.mlp_out(F.gelu(self.mlp_in(x)) if self.gate is None else self._gated(x, self.gate))

    def _gated(self, x: Tensor, gate_layer: EqualizedLinear) -> Tensor:
        gate, hidden = side_by_side([gate_layer, self.mlp_in], x)  # (..., hidden) each
        return F.silu(gate) * hidden


def hidden_width(dim: int, mlp_ratio: float, kind: MlpKind) -> int:
    """Width of the hidden layer."""
    return round(dim * mlp_ratio * (2 / 3 if kind == "swiglu" else 1))
