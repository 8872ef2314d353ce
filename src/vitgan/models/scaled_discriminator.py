"""A discriminator that judges the image of each level at its own resolution (CAT), by one ViT."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.errors import UserError
from vitgan.models.discriminator import Discriminator
from vitgan.models.levels import halvings_of
from vitgan.models.vit_discriminator import ViTDiscriminator


class ScaledDiscriminator(Discriminator):
    """Levels -> a logit for each. Levels share the ViT's weights, and their tokens never meet."""

    def __init__(self, network: ViTDiscriminator, num_levels: int) -> None:
        """Takes a discriminator of the last level's images.

        Raises:
            UserError: If the first level is too small for a patch, or does not consist of whole ones.
        """
        super().__init__(network.resolution, network.channels, network.num_classes)
        self.network = network
        patch_size, smallest = network.config.patch_size, network.resolution / 2 ** (num_levels - 1)
        if smallest % patch_size:
            raise UserError(
                f"generator.num_levels {num_levels} makes the first level {smallest:g} pixels wide, no multiple of "
                f"discriminator.patch_size {patch_size}: choose fewer levels or smaller patches",
                "model.generator.num_levels",
            )

    @property
    def blocks(self) -> nn.ModuleList:
        """The network's."""
        return self.network.blocks

    def stages(self) -> list[list[nn.Parameter]]:
        return self.network.stages()

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        """Levels (B, N, C, H, W) in [-1, 1] -> logits (B, N), float32."""
        levels = zip(images.unbind(1), halvings_of(images), strict=True)
        return torch.stack([self.network(F.avg_pool2d(x, 2**halvings), labels) for x, halvings in levels], dim=1)

    def attention_maps(self, images: Tensor) -> list[Tensor]:
        """Those of the last level."""
        return self.network.attention_maps(images)

    def aligned(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of the last level."""
        return self.network.aligned(images[:, -1])
