"""An own discriminator: convolutions that judge patches, as pix2pix has them. A few minutes on a CPU.

The hook is `CUSTOM_NETWORKS`: a subclass of `Discriminator`, images in, logits out.
"""

from pathlib import Path

from torch import Tensor, nn

import vitgan
from vitgan.models.build import CUSTOM_NETWORKS, CustomConfig
from vitgan.models.discriminator import Discriminator


class Patches(Discriminator):
    """One logit for each patch of the image; the losses average over them."""

    def __init__(self, resolution: int, channels: int, num_classes: int, width: int = 32) -> None:
        super().__init__(resolution, channels, num_classes)
        self.network = nn.Sequential(
            nn.Conv2d(channels, width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, 1, 1),
        )

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        return self.network(images).float().flatten(1)  # (B, patches)


CUSTOM_NETWORKS["patches"] = Patches


def main(kimg: float = 10, out: str | Path = "runs") -> Path:
    """Trains on the bundled images of clothes; returns the run's folder."""
    changes = {"model.discriminator": CustomConfig(name="patches"), "training.discriminator_learning_rate": 0.0002}
    return vitgan.train(vitgan.preset("quickstart", **{"training.total_kimg": kimg}, **changes), out)


if __name__ == "__main__":
    print(main())
