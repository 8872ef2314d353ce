"""StyleGAN2's generator (Karras et al. 2020, config E/F): mapping network, modulated convolutions, skip outputs.

    w     = mapping(z)                                    (fully connected layers on normalised z)
    x_4   = conv(constant)                                (4×4)
    x_2r  = conv(conv_up(x_r))                            (modulated by w, plus noise, leaky ReLU)
    y_2r  = upsample(y_r) + to_rgb(x_2r)                  (the image is the sum over all resolutions)

Class-conditional as in StyleGAN2-ADA (Karras et al. 2020b). No normalisation layer, no custom operation.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.layers.linear import normal_
from vitgan.layers.resample import ModulatedConv2d, Upsample, leaky_relu
from vitgan.models.generator import Generator, Noise
from vitgan.models.mapping import MappingNetwork
from vitgan.schema import Config

FIRST_RESOLUTION = 4


class StyleGAN2GeneratorConfig(Config):
    """Sizes of the generator.

    Feature maps at resolution r: min(channel_base / r, channel_max). The defaults are those of StyleGAN2-ADA's
    public "paper256" configuration; at 32×32 they give 512 maps everywhere, as in its "cifar" configuration, which has
    mapping_layers = 2 instead. Large images ("stylegan2" there) take channel_base = 32768. The narrow CNN that ViTGAN's
    public code uses at 32×32 (512, 512, 256 and 128 maps at 4×4 to 32×32) is channel_base = 4096.
    """

    kind: Literal["stylegan2"] = "stylegan2"
    z_dim: int = Field(default=512, ge=1)
    """Size of a latent."""
    w_dim: int = Field(default=512, ge=1)
    """Size of a style."""
    mapping_layers: int = Field(default=8, ge=1)
    """Fully connected layers from z to w."""
    mapping_lr_multiplier: float = Field(default=0.01, gt=0)
    """Relative learning rate of the mapping network."""
    channel_base: int = Field(default=16384, ge=1)
    """Feature maps at resolution r: channel_base / r, as far as channel_max allows."""
    channel_max: int = Field(default=512, ge=1)
    """Most feature maps at any resolution."""
    noise: bool = True
    """Add per-pixel noise of a learned strength after each 3×3 convolution."""


def feature_maps(resolution: int, channel_base: int, channel_max: int) -> dict[int, int]:
    """Number of feature maps at 4, 8, ... `resolution`, in this order: min(channel_base / r, channel_max).

    Raises:
        UserError: The resolution is no power of two from 8, or the sizes leave no feature maps there.
    """
    if resolution < 8 or resolution & (resolution - 1):
        raise UserError(
            f"StyleGAN2 needs a resolution that is a power of two from 8 on (8, 16, 32, ...), not {resolution}"
        )
    if channel_base < resolution:
        raise UserError(
            f"channel_base {channel_base} leaves no feature maps at {resolution}×{resolution}: "
            f"raise it to {resolution} or more"
        )
    resolutions = [2**i for i in range(2, resolution.bit_length())]
    return {r: min(channel_base // r, channel_max) for r in resolutions}


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution, noise, bias and leaky ReLU."""

    fixed_noise: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, w_dim: int, resolution: int, upsample: bool, noise: bool
    ) -> None:
        super().__init__()
        self.gain = math.sqrt(2)  # the leaky ReLU's, which commutes with it
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, w_dim, upsample=upsample, gain=self.gain)
        self.noise_strength = nn.Parameter(torch.empty(())) if noise else None
        if noise:
            self.register_buffer("fixed_noise", torch.empty(resolution, resolution))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        if self.noise_strength is not None:
            nn.init.zeros_(self.noise_strength)
            normal_(self.fixed_noise)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        """x (B, in, H, W), w (B, w_dim), noise (B, 1, H', W') or None for the fixed one -> (B, out, H', W')."""
        y = self.conv(x, w)
        if self.noise_strength is not None:
            noise = self.fixed_noise if noise is None else noise
            y = y + (noise * (self.noise_strength * self.gain)).to(y.dtype)
        return leaky_relu(y, gain=1.0)


class SynthesisBlock(nn.Module):
    """The convolutions of one resolution and its contribution to the image."""

    def __init__(
        self, in_channels: int | None, out_channels: int, image_channels: int, w_dim: int, resolution: int, noise: bool
    ) -> None:
        """`in_channels` None: the first resolution, one convolution on the constant. Else two, the first upsampling."""
        super().__init__()
        self.resolution, self.has_noise = resolution, noise
        layers = [SynthesisLayer(out_channels, out_channels, w_dim, resolution, upsample=False, noise=noise)]
        if in_channels is not None:
            layers.insert(0, SynthesisLayer(in_channels, out_channels, w_dim, resolution, upsample=True, noise=noise))
        self.layers = nn.ModuleList(layers)
        self.to_rgb = ModulatedConv2d(out_channels, image_channels, 1, w_dim, demodulate=False)

    def draw_noise(self, batch: int, noise: Noise | None) -> list[Tensor | None]:
        """New noise (batch, 1, r, r) for each layer; None, the fixed one, without `noise`, or for layers without noise."""
        if noise is None or not self.has_noise:
            return [None] * len(self.layers)
        side = self.resolution
        return [noise(f"{index} at {side}", batch, 1, side, side) for index in range(len(self.layers))]

    def forward(self, x: Tensor, w: Tensor, noise: list[Tensor | None]) -> tuple[Tensor, Tensor]:
        """x (B, in, r', r'), w (B, number of layers + 1, w_dim) -> features (B, out, r, r), rgb (B, C, r, r)."""
        *styles, rgb_style = w.unbind(dim=1)
        for layer, style, layer_noise in zip(self.layers, styles, noise, strict=True):
            x = layer(x, style, layer_noise)
        return x, self.to_rgb(x, rgb_style)


class StyleGAN2Generator(Generator):
    """z or w -> images; see the module's description."""

    def __init__(self, config: StyleGAN2GeneratorConfig, resolution: int, channels: int, num_classes: int = 0) -> None:
        """Builds the network; weights and fixed noise come from torch's global generator.

        Raises:
            UserError: The resolution is no power of two from 8, or the sizes leave no feature maps there.
        """
        maps = feature_maps(resolution, config.channel_base, config.channel_max)
        super().__init__(resolution, channels, num_classes, config.z_dim, config.w_dim, num_styles=2 * len(maps))
        self.config = config
        self.mapping_network = MappingNetwork(
            config.z_dim, config.w_dim, config.mapping_layers, config.mapping_lr_multiplier, num_classes
        )
        self.constant = nn.Parameter(torch.empty(1, maps[FIRST_RESOLUTION], FIRST_RESOLUTION, FIRST_RESOLUTION))
        self.reset_parameters()
        self.upsample = Upsample()
        self.blocks = nn.ModuleList(
            SynthesisBlock(maps.get(r // 2), maps[r], channels, config.w_dim, r, config.noise) for r in maps
        )

    def reset_parameters(self) -> None:
        super().reset_parameters()
        normal_(self.constant)

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.mapping_network(z, labels)

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        """w (B, num_styles, w_dim) -> images (B, C, H, W), float32, nominally in [-1, 1].

        Args:
            w: A style for each convolution in turn; a resolution's output layer shares that of the next convolution.
            noise: Draws the noise anew for every image; None takes the fixed noise that is part of the model.
        """
        x = self.constant.expand(w.shape[0], -1, -1, -1)  #                    (B, width, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        image = None
        for i, block in enumerate(self.blocks):
            assert isinstance(block, SynthesisBlock)
            drawn = block.draw_noise(w.shape[0], noise)  # here, so that a block is a function of what it is given
            x, rgb = block(x, w[:, max(2 * i - 1, 0) : 2 * i + 2], drawn)  #   (B, width', r, r), (B, C, r, r)
            # The sum over resolutions stays float32 under autocast.
            image = rgb.to(w.dtype) if image is None else self.upsample(image) + rgb.to(w.dtype)  # (B, C, r, r)
        assert image is not None
        return image.contiguous()
