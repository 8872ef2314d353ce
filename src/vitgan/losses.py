"""Adversarial losses: logits in, one scalar out.

Every loss is a pair of functions of the logits of real and fake images, each (B,) float32; both are minimised.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

LossName = Literal["non_saturating", "hinge", "wasserstein", "relativistic"]


@dataclass(frozen=True)
class AdversarialLoss:
    """The two players' losses.

    Attributes:
        discriminator: (real_logits, fake_logits) -> scalar.
        generator: (real_logits, fake_logits) -> scalar; real_logits may be None unless `generator_sees_real`.
        generator_sees_real: Whether the generator's loss compares with real images.
    """

    discriminator: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor | None, Tensor], Tensor]
    generator_sees_real: bool = False


def non_saturating_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x)) - log(1 - sigmoid(D(G(z)))) (Goodfellow et al. 2014; ViTGAN's loss)."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)))."""
    return F.softplus(-fake_logits).mean()


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1 - D(x)) + max(0, 1 + D(G(z))) (Lim and Ye 2017)."""
    return F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """D(G(z)) - D(x) (Arjovsky et al. 2017)."""
    return fake_logits.mean() - real_logits.mean()


def negated_mean_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-D(G(z)), the generator's side of hinge and Wasserstein losses."""
    return -fake_logits.mean()


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(x) - D(G(z))), each real image paired with one fake (Jolicoeur-Martineau 2019; R3GAN)."""
    return F.softplus(fake_logits - real_logits).mean()


def relativistic_generator(real_logits: Tensor | None, fake_logits: Tensor) -> Tensor:
    """-log sigmoid(D(G(z)) - D(x))."""
    assert real_logits is not None
    return F.softplus(real_logits - fake_logits).mean()


LOSSES: dict[LossName, AdversarialLoss] = {
    "non_saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator),
    "hinge": AdversarialLoss(hinge_discriminator, negated_mean_generator),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, negated_mean_generator),
    "relativistic": AdversarialLoss(relativistic_discriminator, relativistic_generator, generator_sees_real=True),
}
