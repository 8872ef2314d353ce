"""Layers with equalised learning rate: linear, convolution, and the modulated linear layer of the implicit pixel decoder.

Equalised learning rate (Karras et al. 2018): weights are stored with unit variance and scaled by 1/sqrt(fan_in) when they
are used, so that Adam's step has the same relative size in every layer. `lr_multiplier` slows a layer down further.
Weights are drawn from the global generator of torch, like those of torch's own modules; `models.build` seeds it.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TypedDict, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.precision import wide
from vitgan.layers.spectral import SpectralNorm, WeightNorm


class LayerOptions(TypedDict, total=False):
    """What every equalised layer can be told; see `EqualizedLayer`."""

    bias: bool
    bias_init: float
    gain: float
    lr_multiplier: float
    equalized: bool
    weight_norm: WeightNorm
    initial_factor: float


class EqualizedLayer(nn.Module):
    """A weight (out, in, ...) and a bias (out,) with their factors, and optionally a (improved) spectral norm."""

    weight: nn.Parameter
    bias: nn.Parameter | None
    weight_norm: SpectralNorm | None

    def __init__(
        self,
        shape: tuple[int, ...],
        bias: bool = True,
        bias_init: float = 0.0,
        gain: float = 1.0,
        lr_multiplier: float = 1.0,
        equalized: bool = True,
        weight_norm: WeightNorm = "none",
        initial_factor: float = 1.0,
    ) -> None:
        """Builds the layer.

        Args:
            shape: Of the weight.
            bias: Whether to add a learned bias.
            bias_init: Its initial value.
            gain: Factor of the whole output: standard deviation of the effective weights times sqrt(fan_in).
            lr_multiplier: Relative learning rate of weight and bias.
            equalized: False stores weights and bias at their effective size over `lr_multiplier` (the ordinary form).
            weight_norm: "isn", "sn" or "none"; the norm is that of the weight seen as a matrix (out, everything else).
            initial_factor: Factor of the initial weight alone.
        """
        super().__init__()
        deviation = gain / math.sqrt(math.prod(shape[1:]))
        self.scale = (deviation if equalized else 1.0) * lr_multiplier
        self.bias_scale = (gain if equalized else 1.0) * lr_multiplier
        self.initial_deviation, self.initial_factor = deviation / self.scale, initial_factor
        self.initial_bias = bias_init / self.bias_scale
        self.weight = nn.Parameter(torch.empty(shape))
        self.bias = nn.Parameter(torch.empty(shape[0])) if bias else None
        self.weight_norm = None if weight_norm == "none" else SpectralNorm(shape, weight_norm, self.scale)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the weight anew, and measures it for the spectral norm."""
        normal_(self.weight, self.initial_deviation).mul_(self.initial_factor)
        if self.bias is not None:
            nn.init.constant_(self.bias, self.initial_bias)
        if self.weight_norm is not None:
            self.weight_norm.reset(self.weight)

    def effective_weight(self) -> Tensor:
        """The weight as the layer applies it, float32."""
        return self.weight * self.scale if self.weight_norm is None else self.weight_norm(self.weight)

    def effective_bias(self) -> Tensor | None:
        """The bias (out,) as the layer applies it."""
        if self.bias is None or self.bias_scale == 1.0:
            return self.bias
        return self.bias * self.bias_scale

    def extra_repr(self) -> str:
        return f"{tuple(self.weight.shape)}, scale={self.scale:.4g}"


class EqualizedLinear(EqualizedLayer):
    """y = x W^T + b."""

    def __init__(self, in_features: int, out_features: int, **options: Unpack[LayerOptions]) -> None:
        super().__init__((out_features, in_features), **options)
        self.in_features, self.out_features = in_features, out_features

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(x, self.effective_weight(), self.effective_bias())


class EqualizedConv2d(EqualizedLayer):
    """A 2-D convolution with a square kernel."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), **options)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H', W')."""
        return F.conv2d(x, self.effective_weight(), self.effective_bias(), self.stride, self.padding)


def stacked(layers: Iterable[EqualizedLinear | EqualizedConv2d]) -> tuple[Tensor, Tensor]:
    """Layers of the same input as one: weights and biases stacked along the outputs, zeros for a missing bias."""
    weights, biases = [], []
    for layer in layers:
        bias = layer.effective_bias()
        weights.append(layer.effective_weight())
        biases.append(bias if bias is not None else layer.weight.new_zeros(len(layer.weight)))
    return torch.cat(weights), torch.cat(biases)


def side_by_side(layers: Sequence[EqualizedLinear], x: Tensor) -> tuple[Tensor, ...]:
    """The layers' outputs for the same x, by one product: x is read, cast and differentiated once."""
    return F.linear(x, *stacked(layers)).split([layer.out_features for layer in layers], dim=-1)


class ModulatedLinear(EqualizedLayer):
    """A linear layer whose weight each style rescales, as in StyleGAN2 (Karras et al. 2020) and CIPS, per token.

    For a style s the weight is W'_ok = W_ok s_k, demodulated to W''_ok = W'_ok / sqrt(sum_k W'_ok² + eps). The
    demodulation divides the output; s multiplies what is smaller, a weight for each token or the input of a shared product.
    """

    bias: nn.Parameter

    def __init__(
        self,
        in_features: int,
        out_features: int,
        demodulate: bool = True,
        equalized: bool = True,
        initial_factor: float = 1.0,
    ) -> None:
        super().__init__((out_features, in_features), equalized=equalized, initial_factor=initial_factor)
        self.in_features, self.out_features, self.demodulate = in_features, out_features, demodulate

    def demodulation(self, style: Tensor) -> Tensor:
        """1 / ||W ⊙ s|| per output: style (..., in_features) -> (..., out_features), float32 or wider."""
        energy = F.linear(style.square(), self.effective_weight().square())  # a sum of positive terms: safe in bf16
        return torch.rsqrt(wide(energy) + 1e-8)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x (T, P, in_features), style (T, in_features) -> (T, P, out_features)."""
        weight, style_row = self.effective_weight(), style.unsqueeze(1)
        if self.out_features < x.shape[1]:
            return self._finish(torch.bmm(x, (weight * style_row).transpose(1, 2)), style)
        return self._finish(F.linear(x * style_row, weight), style)

    def forward_shared(self, features: Tensor, style: Tensor) -> Tensor:
        """The same for one `features` (P, in_features) shared by all styles (T, in_features) -> (T, P, out_features).

        (f ⊙ s) W^T = s (f ⊙ W)^T: the features are folded into the weight once, (P · out_features, in_features), so that
        the product over all tokens is one matrix multiplication and no modulated copy of the features is stored.
        """
        folded = (features.unsqueeze(1) * self.effective_weight()).flatten(0, 1)  # (P·out, in)
        y = F.linear(style, folded).unflatten(-1, (features.shape[0], self.out_features))
        return self._finish(y, style)

    def _finish(self, y: Tensor, style: Tensor) -> Tensor:
        bias = self.bias.to(y.dtype)
        if not self.demodulate:
            return y + bias
        return torch.addcmul(bias, y, self.demodulation(style).unsqueeze(1).to(y.dtype))


def normal_(tensor: Tensor, deviation: float = 1.0) -> Tensor:
    """Fills a tensor with normal numbers in place; on "meta" `nn.init.normal_` would import torch's compiler for nothing."""
    return tensor if tensor.is_meta else nn.init.normal_(tensor, std=deviation)
