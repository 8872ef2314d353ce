"""StyleGAN2's discriminator (Karras et al. 2020): residual blocks that blur and halve, minibatch standard deviation.

    x_r    = leaky_relu(1×1 convolution of the image)
    x_r/2  = (conv_down(conv(x_r)) + skip_down(x_r)) / sqrt(2)        (down to 4×4)
    logit  = fully connected(conv([x_4, minibatch standard deviation]))

Class-conditional by projection as in StyleGAN2-ADA (Karras et al. 2020b).
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear
from vitgan.layers.precision import full_precision, wide
from vitgan.layers.resample import Blur, Downsample, leaky_relu
from vitgan.models.discriminator import Discriminator
from vitgan.models.mapping import MappingNetwork
from vitgan.models.stylegan2_generator import FIRST_RESOLUTION, feature_maps
from vitgan.schema import Config


class StyleGAN2DiscriminatorConfig(Config):
    """Sizes of the discriminator.

    Feature maps at resolution r: min(channel_base / r, channel_max); `StyleGAN2GeneratorConfig` says which are in use.
    StyleGAN2-ADA's CIFAR-10 model differs from the defaults in residual = False and minibatch_stddev_group = 32.
    """

    kind: Literal["stylegan2"] = "stylegan2"
    channel_base: int = Field(default=16384, ge=1)
    """Feature maps at resolution r: channel_base / r, as far as channel_max allows."""
    channel_max: int = Field(default=512, ge=1)
    """Most feature maps at any resolution."""
    residual: bool = True
    """Skip connections around the blocks."""
    minibatch_stddev_group: int = Field(default=4, ge=1)
    """Neighbouring images whose spread the network sees."""
    label_mapping_layers: int = Field(default=8, ge=1)
    """Fully connected layers on a class label (conditional)."""
    label_mapping_lr_multiplier: float = Field(default=0.01, gt=0)
    """Their relative learning rate."""


class DiscriminatorBlock(nn.Module):
    """Two 3×3 convolutions, the second onto half the size: (B, in, H, W) -> (B, out, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int, residual: bool) -> None:
        super().__init__()
        self.conv = EqualizedConv2d(in_channels, in_channels, 3, padding=1)
        self.blur = Blur(padding=2)
        self.conv_down = EqualizedConv2d(in_channels, out_channels, 3, stride=2)
        # The sum of the two branches is divided by sqrt(2): here in the weight, there in the gain of the leaky ReLU.
        self.skip = (
            nn.Sequential(Downsample(), EqualizedConv2d(in_channels, out_channels, 1, bias=False, gain=math.sqrt(0.5)))
            if residual
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, H, W) -> (B, out, H/2, W/2)."""
        y = self.conv_down(self.blur(leaky_relu(self.conv(x))))
        return leaky_relu(y) if self.skip is None else leaky_relu(y, gain=1.0) + self.skip(x)


def append_minibatch_stddev(x: Tensor, group: int, num_sets: int = 1) -> Tensor:
    """Appends one channel: how much the images of a group differ (Karras et al. 2018, with StyleGAN2's groups).

    Each run of `group` neighbouring images gets the standard deviation of every feature over the run (biased, +1e-8
    under the root, in float32), averaged over all features and pixels. What is left at a set's end forms a smaller group.

    Args:
        x: (B, C, H, W), `num_sets` sets of as many images each, one after the other.
        group: Images of a group.
        num_sets: Sets that no group reaches across.

    Returns:
        (B, C + 1, H, W), channels last in memory.
    """
    sets = x.unflatten(0, (num_sets, -1))  # (sets, n, C, H, W)
    whole = sets.shape[1] // group * group
    parts = [part for part in (sets[:, :whole], sets[:, whole:]) if part.shape[1]]
    statistics = [_mean_stddev(part, min(group, part.shape[1])) for part in parts]
    channel = torch.cat(statistics, dim=1).flatten()[:, None, None, None].to(x.dtype).expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], dim=1).contiguous(memory_format=torch.channels_last)


def _mean_stddev(x: Tensor, group: int) -> Tensor:
    """Of each image (sets, n, C, H, W) the mean deviation of features in its run of `group`: (sets, n), float32 or wider."""
    variance = wide(x).unflatten(1, (-1, group)).var(dim=2, correction=0)  # (sets, n / group, C, H, W)
    return (variance + 1e-8).sqrt().flatten(2).mean(dim=2).repeat_interleave(group, dim=1)


class StyleGAN2Discriminator(Discriminator):
    """Images -> logits; see the module's description."""

    def __init__(
        self, config: StyleGAN2DiscriminatorConfig, resolution: int, channels: int, num_classes: int = 0
    ) -> None:
        """Builds the network; weights come from torch's global generator.

        Raises:
            UserError: The resolution is no power of two from 8, or the sizes leave no feature maps there.
        """
        super().__init__(resolution, channels, num_classes)
        maps = feature_maps("discriminator", resolution, config.channel_base, config.channel_max)
        width = maps[FIRST_RESOLUTION]
        self.config = config
        self.from_rgb = EqualizedConv2d(channels, maps[resolution], 1)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(maps[r], maps[r // 2], config.residual) for r in reversed(maps) if r > FIRST_RESOLUTION
        )
        self.conv = EqualizedConv2d(width + 1, width, 3, padding=1)
        self.hidden = EqualizedLinear(width * FIRST_RESOLUTION**2, width)
        self.out = EqualizedLinear(width, width if num_classes else 1)
        self.label_mapping = (
            MappingNetwork(0, width, config.label_mapping_layers, config.label_mapping_lr_multiplier, num_classes)
            if num_classes
            else None
        )

    def stages(self) -> list[list[nn.Parameter]]:
        return [[*part.parameters()] for part in (self.from_rgb, *self.blocks)]

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> logits (B,), float32; arguments as in `Discriminator`.

        Images share their minibatch statistics with the neighbours of their group: images 0 .. g - 1 of a set are its
        first group, and so on; its last group may be smaller.
        """
        images = images.flatten(1, -3)  # levels are channels
        x = self.from_rgb(images).contiguous(memory_format=torch.channels_last)  # (B, width, H, W)
        x = leaky_relu(x)  #                                                       (B, width, H, W)
        for block in self.blocks:
            x = block(x)  #                                                        (B, width', H/2, W/2), down to 4×4
        # Losses take differences of logits: from 4×4 on float32 under autocast too, as in StyleGAN2-ADA.
        with full_precision(x):
            x = append_minibatch_stddev(
                x.to(self.out.weight.dtype), self.config.minibatch_stddev_group, num_sets
            )  #                                                                   (B, width + 1, 4, 4)
            x = leaky_relu(self.conv(x))  #                                        (B, width, 4, 4)
            x = leaky_relu(self.hidden(x.flatten(1)))  #                           (B, width)
            x = self.out(x)  #                                                     (B, 1), or (B, width)
            return x.squeeze(1) if self.label_mapping is None else self.project(x, labels)  # (B,)

    def project(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """Projection on the class (Miyato and Koyama 2018): features (B, width), labels (B,) -> logits (B,)."""
        if labels is None:
            raise ValueError("this discriminator is conditional: pass labels, class indices (B,)")
        assert self.label_mapping is not None
        embedding = self.label_mapping(x.new_empty(len(x), 0), labels)  # the mapping network with no latent
        return (x * embedding).sum(dim=1) / math.sqrt(x.shape[1])
