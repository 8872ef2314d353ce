"""StyleGAN2's image layers: blur, up- and downsampling, and the modulated convolution (Karras et al. 2020).

All resampling uses the separable low-pass filter [1, 3, 3, 1] / 8 with zeros outside the image, as "upfirdn": insert
zeros (when going up), filter, keep every second pixel (when going down). Only torch's own convolutions are used, so that
everything can be differentiated twice. The code has the forms that were fastest on CPUs. A blur is one depthwise 4×4
convolution in channels-last memory, not two separable passes. Upsampling is a transposed convolution, then a blur: a blur
first would be four times the work for the same result.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedLayer, EqualizedLinear
from vitgan.layers.precision import full_precision


class _DepthwiseFilter(nn.Module):
    """A normalised separable filter, applied to each channel in the precision of the input, autocast or not."""

    kernel: Tensor

    def __init__(self, taps: tuple[float, ...], gain: float = 1.0) -> None:
        super().__init__()
        self.taps, self.gain = taps, gain
        self.register_buffer("kernel", torch.empty(1, 1, len(taps), len(taps)))  # (1, 1, taps, taps), in checkpoints
        self.reset_parameters()

    def reset_parameters(self) -> None:
        row = torch.tensor(self.taps)
        self.kernel.copy_(torch.outer(row, row) * (self.gain / row.sum() ** 2))

    def depthwise_kernel(self, x: Tensor) -> Tensor:
        """(C, 1, taps, taps) for x (B, C, H, W)."""
        return self.kernel.to(x.dtype).expand(x.shape[1], 1, -1, -1)


class Blur(_DepthwiseFilter):
    """Low-pass filter: (B, C, H, W) -> (B, C, H + 2·padding - 3, W + 2·padding - 3), zeros outside."""

    def __init__(self, padding: int, gain: float = 1.0) -> None:
        """`gain` multiplies the result: 4 after zeros were inserted in both directions keeps the mean."""
        super().__init__((1.0, 3.0, 3.0, 1.0), gain)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            return F.conv2d(x, self.depthwise_kernel(x), padding=self.padding, groups=x.shape[1])


class Upsample(_DepthwiseFilter):
    """Twice the size: (B, C, H, W) -> (B, C, 2H, 2W). Inside the image this is bilinear interpolation."""

    def __init__(self) -> None:
        super().__init__((1.0, 3.0, 3.0, 1.0), gain=4.0)

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            return F.conv_transpose2d(x, self.depthwise_kernel(x), stride=2, padding=1, groups=x.shape[1])


class Downsample(_DepthwiseFilter):
    """Half the size: (B, C, H, W) -> (B, C, H/2, W/2), H and W even.

    [1, 3, 3, 1] is [1, 2, 1] convolved with [1, 1]: a blur, then the mean of 2×2 pixels. A depthwise convolution of
    stride 2 gives the same, but its backward pass in bf16 took four times as long on CPUs.
    """

    def __init__(self) -> None:
        super().__init__((1.0, 2.0, 1.0))

    def forward(self, x: Tensor) -> Tensor:
        with full_precision(x):
            return F.avg_pool2d(F.conv2d(x, self.depthwise_kernel(x), padding=1, groups=x.shape[1]), 2)


class ModulatedConv2d(EqualizedLayer):
    """A convolution whose weight each sample's style rescales, optionally onto twice the resolution.

    The style s = A w + b, b starting at 1, gives each sample the weight W'_oikl = W_oikl s_i, demodulated to
    W''_oikl = W'_oikl / sqrt(sum_ikl W'_oikl² + 1e-8). Since s depends on the input channel and the demodulation on the
    output channel alone, activations are scaled before and after one convolution shared by the whole batch; no weight
    per sample and no grouped convolution is needed. Style and demodulation are computed in float32 under autocast too.
    """

    bias: nn.Parameter

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        w_dim: int,
        demodulate: bool = True,
        upsample: bool = False,
        gain: float = 1.0,
        initial_factor: float = 1.0,
    ) -> None:
        """Builds the layer with equalised learning rate and a bias that starts at 0.

        Args:
            in_channels: Channels of the input.
            out_channels: Channels of the output.
            kernel_size: Odd; with `upsample` it must be 3.
            w_dim: Size of a style vector w.
            demodulate: Normalise each output channel to unit variance for unit-variance input.
            upsample: Transposed convolution onto twice the size, then blur.
            gain: Factor of the whole output, folded into what is multiplied anyway: that of an activation to follow.
            initial_factor: Factor of the initial weight alone.
        """
        if upsample and kernel_size != 3:
            raise ValueError(f"an upsampling modulated convolution has kernel size 3, not {kernel_size}")
        super().__init__((out_channels, in_channels, kernel_size, kernel_size), initial_factor=initial_factor)
        self.in_channels, self.out_channels, self.gain = in_channels, out_channels, gain
        self.demodulate, self.padding = demodulate, kernel_size // 2
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.blur = Blur(padding=1, gain=4.0) if upsample else None

    def modulation(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """w (B, w_dim) -> factors of the input (B, in) and of the output (B, out) or (1,), float32.

        The equalised layer's scale is part of the former: the style is far smaller than the weight.
        """
        with full_precision(w):
            style = self.affine(w.to(self.weight.dtype)) * self.scale
            if not self.demodulate:
                return style, style.new_full((1,), self.gain)
            squared_norm = F.linear(style.square(), self.weight.square().sum((2, 3)))
            return style, torch.rsqrt(squared_norm + 1e-8) * self.gain

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x (B, in_channels, H, W), w (B, w_dim) -> (B, out_channels, H, W), or (.., 2H, 2W) with `upsample`."""
        style, factor = self.modulation(w)
        x = x * style[..., None, None].to(x.dtype)
        if self.blur is not None:
            y = self.blur(F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2))
        else:
            y = F.conv2d(x, self.weight, padding=self.padding)
        bias = (self.bias * self.gain)[:, None, None].to(y.dtype)
        return torch.addcmul(bias, y, factor[..., None, None].to(y.dtype))


def leaky_relu(x: Tensor, gain: float = math.sqrt(2)) -> Tensor:
    """gain · leaky_relu(x) with slope 0.2; the default gain keeps the variance about constant from layer to layer."""
    y = F.leaky_relu(x, 0.2)
    return y if gain == 1.0 else y * gain
