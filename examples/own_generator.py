"""An own generator: convolutions in place of the Vision Transformer. A few minutes on a CPU.

The hook is `CUSTOM_NETWORKS`: a subclass of `Generator` with a mapping z -> w and a synthesis w -> images. Training,
averaging, checkpoints, resuming and sampling work as with the package's own.
"""

import math
from pathlib import Path

from torch import Tensor, nn

import vitgan
from vitgan.models.build import CUSTOM_NETWORKS, CustomConfig
from vitgan.models.generator import Generator, Noise


class Convolutions(Generator):
    """4×4 maps, doubled until they are as large as the images; z itself is the style."""

    def __init__(self, resolution: int, channels: int, num_classes: int, width: int = 64) -> None:
        super().__init__(resolution, channels, num_classes, z_dim=64, w_dim=64, num_styles=1)
        layers: list[nn.Module] = [nn.Unflatten(1, (64, 1, 1)), nn.ConvTranspose2d(64, width, 4)]
        for _ in range(round(math.log2(resolution / 4))):
            layers += [nn.GroupNorm(8, width), nn.SiLU(), nn.Upsample(scale_factor=2)]
            layers += [nn.Conv2d(width, width, 3, padding=1)]
        self.network = nn.Sequential(*layers, nn.SiLU(), nn.Conv2d(width, channels, 3, padding=1))

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        return z

    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        return self.network(w[:, 0]).float()  # float32 also where training computes in bf16


CUSTOM_NETWORKS["convolutions"] = Convolutions


def main(kimg: float = 10, out: str | Path = "runs") -> Path:
    """Trains on the bundled images of clothes; returns the run's folder."""
    generator = CustomConfig(name="convolutions", settings={"width": 64})
    changes = {"model.generator": generator, "training.total_kimg": kimg, "training.learning_rate": 0.0005}
    run = vitgan.train(vitgan.preset("quickstart", **changes), out)
    vitgan.load(run).sample(1, output="pil")[0].save(run / "one.png")
    return run


if __name__ == "__main__":
    print(main())
