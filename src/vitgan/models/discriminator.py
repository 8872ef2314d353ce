"""What all discriminators share: images in, logits out. There is one logit an image, or several that the losses average."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.layers.precision import full_precision


class Judgement(NamedTuple):
    """What a discriminator says of images, all that one look at them gives.

    Attributes:
        logits: (B,) or (B, K), float32.
        classes: Class logits (B, num_classes), float32, for `objective.classification`; None of a kind without them.
        features: Frozen features, (B, C_i, H_i, W_i) each, for `objective.energy`; none of a kind without them.
    """

    logits: Tensor
    classes: Tensor | None = None
    features: tuple[Tensor, ...] = ()

    def parts(self, count: int) -> "list[Judgement]":
        """Those of so many equal parts of the batch."""
        classes = [None] * count if self.classes is None else self.classes.chunk(count)
        features = zip(*(maps.chunk(count) for maps in self.features), strict=True) if self.features else [()] * count
        return [Judgement(*part) for part in zip(self.logits.chunk(count), classes, features, strict=True)]


class Classifier(nn.Module):
    """Class logits, linear in features (AC-GAN, Odena et al. 2017). It begins with none more likely than another."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, num_features))
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def forward(self, features: Tensor) -> Tensor:
        """(B, num_features) -> class logits (B, num_classes), float32."""
        with full_precision(features):
            return F.linear(features.to(self.weight.dtype), self.weight, self.bias)


class Discriminator(nn.Module, ABC):
    """Base of the discriminators.

    Attributes:
        resolution: Height and width of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        num_classes: Number of classes of a conditional model, 0 for an unconditional one.
        num_levels: Images of rising level that it is shown of each (`vitgan.models.levels`).
    """

    num_levels: int = 1

    def __init__(self, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.resolution, self.channels, self.num_classes = resolution, channels, num_classes

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        """Images (B, C, H, W) in [-1, 1], or their levels (B, N, C, H, W) -> logits (B,) or (B, K), float32.

        Args:
            images: What to judge.
            labels: (B,) int64 for a conditional model.
            num_sets: The batch is so many sets of B / num_sets images, one after the other, none of which sees another: a
                logit is what it would be if its set came alone, also where D compares images (minibatch standard deviation).
        """

    def judge(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Judgement:
        """The logits that `forward` gives, and what else this kind can say of the same images; arguments as there."""
        return Judgement(self(images, labels, num_sets))

    def frozen_maps(self, images: Tensor) -> tuple[Tensor, ...]:
        """The features of a `Judgement` alone."""
        return ()

    def aligned(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What `objective.alignment` compares, of images as `forward` takes them: some of D's features and a frozen
        network's, (B, L, F) each. Of a ViT that has an alignment alone: the configuration is refused for others."""
        raise NotImplementedError

    def stages(self) -> list[list[nn.Parameter]]:
        """What is trained, in the order in which images pass: what comes before the first block, then each block.

        Empty for a network without blocks.
        """
        return []

    def first_parameters(self, blocks: int) -> list[nn.Parameter]:
        """The parameters of the first `blocks` blocks and of what comes before them; none for 0.

        Raises:
            UserError: If there are not so many blocks.
        """
        stages = self.stages()
        if blocks > max(len(stages) - 1, 0):
            has = f"D has {len(stages) - 1} blocks" if stages else "this kind of D has no blocks to freeze"
            raise UserError(f"freeze_d is {blocks}, but {has}: choose fewer, or leave it out", "training.freeze_d")
        return [parameter for stage in stages[: blocks + 1] for parameter in stage] if blocks else []

    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """What each token attends to, by block: images (B, C, H, W) -> (B, heads, N, N) each, float32.

        A discriminator of levels sees the image in each, without noise. A network without attention has none.
        """
        return []
