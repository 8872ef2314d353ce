"""An own adversarial loss: least squares (Mao et al. 2017). A few minutes on a CPU.

The hook is `LOSSES`: two functions of the logits of real and fake images, both minimised.
"""

from pathlib import Path

from torch import Tensor

import vitgan
from vitgan.training.losses import LOSSES, AdversarialLoss


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Real images are drawn to 1, fakes to 0."""
    return (real_logits - 1).square().mean() + fake_logits.square().mean()


def generator_loss(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """Fakes are drawn to 1."""
    return (fake_logits - 1).square().mean()


LOSSES["least_squares"] = AdversarialLoss(discriminator_loss, generator_loss)


def main(kimg: float = 10, out: str | Path = "runs") -> Path:
    """Trains on the bundled images of clothes; returns the run's folder."""
    changes = {"objective.loss": "least_squares", "training.total_kimg": kimg}
    return vitgan.train(vitgan.preset("quickstart", **changes), out)


if __name__ == "__main__":
    print(main())
