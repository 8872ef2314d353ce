"""What all discriminators share: images in, logits out. There is one logit an image, or several that the losses average."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


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
    def forward(
        self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1, return_attention: bool = False
    ) -> Tensor | tuple[Tensor, list[Tensor]]:
        """Images (B, C, H, W) in [-1, 1], or their levels (B, N, C, H, W) -> logits (B,) or (B, K), float32.

        Args:
            images: What to judge.
            labels: (B,) int64 for a conditional model.
            num_sets: The batch is so many sets of B / num_sets images, one after the other, none of which sees another: a
                logit is what it would be if its set came alone, also where D compares images (minibatch standard deviation).
            return_attention: Return (logits, maps), the attention weights (B, heads, N, N) of each block, float32; a network
                without attention has none.
        """

    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """What each token attends to, by block: images (B, C, H, W) -> (B, heads, N, N) each. Classes make no difference.

        A discriminator of levels sees the image in each, without noise.
        """
        if self.num_levels > 1:
            images = images.unsqueeze(1).expand(-1, self.num_levels, -1, -1, -1)
        labels = torch.zeros(len(images), dtype=torch.long, device=images.device) if self.num_classes else None
        return self(images, labels, return_attention=True)[1]
