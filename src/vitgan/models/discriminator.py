"""What every discriminator is: images in, one logit per image out, or several that the losses average over."""

from abc import ABC, abstractmethod

from torch import Tensor, nn


class Discriminator(nn.Module, ABC):
    """Base of the discriminators.

    Attributes:
        resolution: Height and width of the images in pixels.
        channels: 1 (grey) or 3 (RGB).
        num_classes: Number of classes of a conditional model, 0 for an unconditional one.
    """

    def __init__(self, resolution: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.resolution, self.channels, self.num_classes = resolution, channels, num_classes

    @abstractmethod
    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        """images (B, C, H, W) in [-1, 1], labels (B,) int64 for a conditional model -> logits (B,) or (B, N), float32.

        With `num_sets` the batch is so many sets of B / num_sets images, one after the other, none of which sees another:
        a logit is what it would be if its set came alone, also where D compares images (minibatch standard deviation).
        """

    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """Attention weights of each layer (B, heads, N, N); none for networks without attention."""
        return []
