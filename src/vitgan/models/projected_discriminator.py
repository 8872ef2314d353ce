"""A discriminator on the features of a frozen network: Projected GAN (Sauer et al. 2021), at small sizes.

    maps   = EfficientNet-Lite(enlarged image) at strides 4, 8, 16, 32             (frozen)
    mixed  = fixed random 1×1 across channels, fixed random 3×3 and sums across scales, from coarse to fine
    logits = one small network a scale, each a map of 4×4 logits
    class logits = linear in the means of the maps                                 (with `classifier`)

The features tell things apart from the first step on, so that G learns scenes in minutes. Measure such a G with
another network (docs/evaluation.md).
Different from the paper: no batch normalisation (it ties the images of a batch to each other); 4×4 logits at every scale.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitgan.frozen.features import Fields, load_frozen
from vitgan.layers.linear import EqualizedConv2d, EqualizedLinear, LayerOptions, normal_
from vitgan.layers.precision import full_precision
from vitgan.models.discriminator import Classifier, Discriminator, Judgement
from vitgan.schema import Config

GRID = 4
"""Logits of a scale: GRID × GRID."""
TORCH_GAIN = math.sqrt(1 / 3)
"""Initial weights as large as torch's own: a spectral norm leaves only their rate of change depend on it."""


class ProjectedDiscriminatorConfig(Config):
    """Which frozen network, and the size of what is trained on it."""

    kind: Literal["projected"] = "projected"
    features: str = "lite2"
    """The frozen network: lite2 (ImageNet's EfficientNet-Lite), lite0, which is left to the metrics, or a folder with a
    DINOv2 as transformers saves it, which gives one map."""
    input_size: int = Field(default=64, ge=1)
    """Height and width in pixels to which images are resized before the network sees them: a multiple of 32, of DINOv2's
    patch."""
    width: int = Field(default=64, ge=1)
    """Channels of the mixed maps and of the trained layers."""
    classifier: bool = False
    """D also tells the classes of images, for `objective.classification`; does nothing without classes."""


class FixedMixing(nn.Module):
    """Random, fixed mixing across channels and scales, so that a head cannot rely on a few features (Projected GAN §3.2)."""

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        super().__init__()
        for index, fan_in in enumerate(channels):
            self.register_buffer(f"across_channels_{index}", random_kernel(width, fan_in, 1))
            self.register_buffer(f"across_scales_{index}", random_kernel(width, width, 3))

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """(B, C_i, H_i, W_i) from fine to coarse -> (B, width, H_i, W_i)."""
        mixed: list[Tensor] = []
        for index, x in reversed(list(enumerate(maps))):
            x = F.conv2d(x, getattr(self, f"across_channels_{index}"))
            if mixed:
                x = x + F.interpolate(mixed[-1], size=x.shape[2:], mode="bilinear", align_corners=True)
            mixed.append(F.conv2d(x, getattr(self, f"across_scales_{index}"), padding=1) * math.sqrt(0.5))
        return mixed[::-1]


def random_kernel(fan_out: int, fan_in: int, kernel_size: int) -> Tensor:
    """(fan_out, fan_in, kernel_size, kernel_size), normal, as large as He et al. (2015) have it."""
    shape = (fan_out, fan_in, kernel_size, kernel_size)
    return normal_(torch.empty(shape), math.sqrt(2 / (fan_in * kernel_size**2)))


class Head(nn.Module):
    """Convolutions of stride 2 down to 4×4, then a logit at every place; by projection for a conditional model."""

    def __init__(self, width: int, size: int, num_classes: int) -> None:
        super().__init__()
        options: LayerOptions = {"gain": TORCH_GAIN, "equalized": False, "weight_norm": "sn"}
        halvings = max((size // GRID).bit_length() - 1, 0)
        self.down = nn.ModuleList(EqualizedConv2d(width, width, 4, 2, 1, **options) for _ in range(halvings))
        self.conv = EqualizedConv2d(width, width, 1, **options)
        self.out = EqualizedConv2d(width, 1, 1, **options)
        unbiased: LayerOptions = {**options, "bias": False}
        self.class_embedding = EqualizedLinear(num_classes, width, **unbiased) if num_classes else None

    def forward(self, x: Tensor, labels: Tensor | None) -> Tensor:
        """(B, width, size, size) -> logits (B, 16), float32."""
        for layer in (*self.down, self.conv):
            x = F.leaky_relu(layer(x), 0.2)
        with full_precision(x):
            x = x.to(self.out.weight.dtype)
            logits = self.out(x)
            if self.class_embedding is not None:
                assert labels is not None
                embedding = self.class_embedding(F.one_hot(labels, self.class_embedding.in_features).to(x.dtype))
                logits = logits + torch.einsum("bchw,bc->bhw", x, embedding).unsqueeze(1)
            return F.adaptive_avg_pool2d(logits, GRID).flatten(1)  # repeats the logits of a coarser grid


class ProjectedDiscriminator(Discriminator):
    """Images -> logits (B, 16 · M), 4×4 places of each of M maps: an EfficientNet-Lite has four, a DINOv2 one."""

    def __init__(
        self, config: ProjectedDiscriminatorConfig, resolution: int, channels: int, num_classes: int = 0
    ) -> None:
        """Builds the network; random weights come from torch's global generator, those of ImageNet from a package.

        Raises:
            UserError: The network cannot be had, or cannot see images of this size.
        """
        super().__init__(resolution, channels, num_classes)
        self.config = config
        fields = Fields("model.discriminator.features", "model.discriminator.input_size")
        self.features = load_frozen(config.features, config.input_size, fields)
        self.mixing = FixedMixing(self.features.channels, config.width)
        self.heads = nn.ModuleList(Head(config.width, side, num_classes) for side in self.features.sides)
        has_classifier = config.classifier and num_classes
        self.classifier = Classifier(sum(self.features.channels), num_classes) if has_classifier else None

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], labels (B,) int64 for a conditional model -> logits (B, 16 · M), float32."""
        return self.judge(images, labels).logits

    def judge(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Judgement:
        """Logits (B, 16 · M), class logits (B, num_classes) and the frozen maps, from one look through the network.

        The classifier is apart from the heads: what it learns leaves their logits as they are.
        """
        if self.num_classes and labels is None:
            raise ValueError("this discriminator is conditional: pass labels, class indices (B,)")
        maps = self.features(images)  # (B, C_i, H_i, W_i) each
        mixed = self.mixing(maps)  #    (B, width, ...) each
        logits = torch.cat([head(x, labels) for head, x in zip(self.heads, mixed, strict=True)], dim=1)
        return Judgement(logits, self.classes(maps), tuple(maps))

    def frozen_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.features(images))

    def classes(self, maps: list[Tensor]) -> Tensor | None:
        """Class logits by the means of the maps; None of a D without a classifier."""
        if self.classifier is None:
            return None
        with full_precision(maps[0]):
            means = [x.to(self.classifier.weight.dtype).mean(dim=(2, 3)) for x in maps]
            return self.classifier(torch.cat([F.layer_norm(x, x.shape[1:]) for x in means], dim=1))
