"""Normalisation of tokens: self-modulated LayerNorm, its plain and RMS forms, and pixel norm."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedLinear
from vitgan.layers.precision import wide

Normalization = Literal["layer", "rms"]


class SelfModulatedLayerNorm(nn.Module):
    """SLN(h, w) = gamma(w) ⊙ (h - mu) / sigma + beta(w) (ViTGAN §3.3, eq. 12).

    gamma and beta are learned affine maps of the latent's style w; they start around 1 and 0, so that the layer starts
    as a LayerNorm that w perturbs. With `normalization="rms"` it is GAT's form: h / rms(h) ⊙ (1 + scale(w)), no shift.
    """

    def __init__(
        self,
        dim: int,
        style_dim: int,
        equalized: bool = True,
        normalization: Normalization = "layer",
        initial_factor: float = 1.0,
    ) -> None:
        """Builds the layer; `initial_factor` multiplies the first weights of gamma and beta."""
        super().__init__()
        self.dim, self.normalization = dim, normalization

        def affine(bias: float) -> EqualizedLinear:
            return EqualizedLinear(style_dim, dim, bias_init=bias, equalized=equalized, initial_factor=initial_factor)

        self.gamma = affine(1.0)
        self.beta = affine(0.0) if normalization == "layer" else None

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        """h (B, N, dim), w (B, style_dim) -> (B, N, dim); statistics in float32."""
        h = wide(h)
        gamma = self.gamma(w).unsqueeze(1).to(h.dtype)
        if self.beta is None:
            return F.rms_norm(h, (self.dim,), eps=1e-6) * gamma
        return torch.addcmul(self.beta(w).unsqueeze(1).to(h.dtype), gamma, F.layer_norm(h, (self.dim,)))


class UnmodulatedNorm(nn.Module):
    """LayerNorm or RMSNorm in the place of a self-modulated one, for latent mappings that leave the norms alone."""

    def __init__(self, dim: int, normalization: Normalization = "layer") -> None:
        super().__init__()
        self.norm = plain_norm(dim, normalization)

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        """h (B, N, dim) -> (B, N, dim); w is not looked at."""
        return self.norm(h)


class WideRMSNorm(nn.RMSNorm):
    """RMSNorm whose statistics and scale are float32 or wider for low-precision inputs and weights too."""

    def forward(self, x: Tensor) -> Tensor:
        """x (..., dim) -> (..., dim) in x's own precision."""
        values = wide(x)
        weight = self.weight.to(values.dtype)  # torch warns, and has no fast kernel, where the two differ
        return F.rms_norm(values, self.normalized_shape, weight, self.eps).to(x.dtype)


def plain_norm(dim: int, normalization: Normalization) -> nn.Module:
    """LayerNorm or RMSNorm with learned scale (and shift)."""
    return nn.LayerNorm(dim) if normalization == "layer" else nn.RMSNorm(dim, eps=1e-6)


def pixel_norm(x: Tensor, epsilon: float = 1e-8) -> Tensor:
    """x / sqrt(mean(x²) + epsilon) over the last dimension (Karras et al. 2018)."""
    return x * torch.rsqrt(x.square().mean(dim=-1, keepdim=True) + epsilon)
