"""Adversarial losses and regularisers: logits and images in, one scalar out, without its weight.

An adversarial loss is a pair of functions of the logits of real and fake images, each (B,) float32; both are minimised.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vitgan.layers.precision import full_precision


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of D and G.

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


LOSSES = {
    "non_saturating": AdversarialLoss(non_saturating_discriminator, non_saturating_generator),
    "hinge": AdversarialLoss(hinge_discriminator, negated_mean_generator),
    "wasserstein": AdversarialLoss(wasserstein_discriminator, negated_mean_generator),
    "relativistic": AdversarialLoss(relativistic_discriminator, relativistic_generator, generator_sees_real=True),
}
"""By the names that `ObjectiveConfig.loss` takes. An own loss is one more entry (examples/own_loss.py)."""


def consistency(logits: Tensor, augmented_logits: Tensor) -> Tensor:
    """mean (D(x) - D(T(x)))², one half of balanced consistency regularisation (bCR, Zhao et al. 2021; ViTGAN §3.2).

    Both arguments are (B,) and gradients flow into both.
    """
    return (logits - augmented_logits).square().mean()


def gradient_penalty(logits: Tensor, images: Tensor) -> Tensor:
    """mean ||∇_x D(x)||²: R1 on real images, R2 on fake ones (Mescheder et al. 2018). Needs double backward.

    Args:
        logits: D(images) (B,), each a function of its own image, or (B, N), each of its own level: then a mean over levels.
        images: (B, C, H, W), requiring a gradient.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return gradient.square().flatten(1).sum(dim=1).mean() / logits[0].numel()


def finite_difference_penalty(logits: Tensor, noisy_logits: Tensor, noise_scale: float) -> Tensor:
    """mean ((D(x + s n) - D(x)) / s)² with n standard normal: a first-order estimate of mean ||∇_x D(x)||².

    E_n (n·∇D)² = ||∇D||², so that it estimates `gradient_penalty` without a second derivative (GAT, R3GAN).

    Args:
        logits: D(x) (B,).
        noisy_logits: D(x + s n) (B,), for the same images.
        noise_scale: s, in units of the image range [-1, 1].
    """
    return ((noisy_logits - logits) / noise_scale).square().mean()


def interpolation_penalty(logits: Tensor, images: Tensor, target: float = 1.0) -> Tensor:
    """mean (||∇_x D(x)|| - target)² at points between real and fake images: WGAN-GP (Gulrajani et al. 2017).

    Args:
        logits: D(images) (B,).
        images: (B, C, H, W), random points between real and fake images, requiring a gradient.
        target: The slope that D is pulled to.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    # The square root has no derivative at 0, where a dead discriminator is.
    norm = (gradient.square().flatten(1).sum(dim=1) + 1e-12).sqrt()
    return (norm - target).square().mean()


def lecam(real_logits: Tensor, fake_logits: Tensor, real_average: Tensor, fake_average: Tensor) -> Tensor:
    """mean (D(x) - a_F)² + mean (D(G(z)) - a_R)², a_R and a_F being running means of the logits (Tseng et al. 2021).

    ViTGAN reports that it helps, and leaves it out of its ablations. This is the paper's equation from the first step on;
    its authors' code squares relu(D(x) - a_F) and relu(a_R - D(G(z))) instead, and starts after 1,000 steps.
    """
    return (real_logits - fake_average).square().mean() + (fake_logits - real_average).square().mean()


def level_consistency(levels: Tensor, anchor: Tensor) -> Tensor:
    """mean (G_i(z) - anchor_i)² over the lower levels i < N, which pulls them towards the last image (CAT).

    Args:
        levels: (B, N, C, H, W), of fakes.
        anchor: (B, N, C, H, W), the last image at each level's resolution, held constant.
    """
    return (levels[:, :-1] - anchor[:, :-1]).square().mean()


def out_of_range(images: Tensor) -> Tensor:
    """mean over images of Σ max(|x| - 1, 0)²: how far fakes (B, ...) leave the range [-1, 1] of real images.

    A generator's output has no bound. Frozen features answer strongly to what no real image has: whiter than white.
    """
    return (images.float().abs() - 1).relu().square().flatten(1).sum(dim=1).mean()


def alignment(tokens: Tensor, frozen: Tensor) -> Tensor:
    """mean (1 - cos(p(h), f)) over tokens: how far a projection of D's tokens is from frozen features (REPA, GAT).

    Args:
        tokens: (B, L, F), projected.
        frozen: (B, L, F), of the same images at the same places.
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    return 1 - F.cosine_similarity(tokens.to(wide), frozen.to(wide), dim=-1).mean()


def path_lengths(images: Tensor, w: Tensor, noise: Tensor) -> Tensor:
    """||J_w^T y|| of the generator for image-shaped noise y (Karras et al. 2020): (B,). Needs double backward.

    Args:
        images: G(w) (B, C, H, W).
        w: Styles (B, num_styles, w_dim) that require a gradient.
        noise: Standard normal, of the images' shape; divided by sqrt(H · W) here.
    """
    size = (images.shape[2] * images.shape[3]) ** 0.5
    (gradient,) = torch.autograd.grad((images * noise).sum() / size, w, create_graph=True)
    return (gradient.square().sum(dim=2).mean(dim=1) + 1e-12).sqrt()


def energy_distance(fake: Sequence[Tensor], real: Sequence[Tensor], labels: Tensor | None = None) -> Tensor:
    """How far a batch of fakes is from a batch of real images as sets, in features (Székely & Rizzo 2013).

    2 E||f - r|| - E||f - f'|| - E||r - r'|| over pairs of one class, in units of the mean distance of real images,
    averaged over scales. The second term pushes fakes apart: it speaks for variety, of which D's logits see little.

    Args:
        fake: Maps (B, C_i, H_i, W_i) of the fakes, one a scale.
        real: Maps of as many real images.
        labels: (B,) int64, classes of both; None is one class.
    """
    batch, device = len(fake[0]), fake[0].device
    others = 1 - torch.eye(batch, device=device)
    pairs = others if labels is None else others * (labels[:, None] == labels)
    total = torch.zeros((), device=device)
    for fake_map, real_map in zip(fake, real, strict=True):
        f, r = pooled(fake_map), pooled(real_map)
        among_real = distances(r, r)
        distance = ((2 * distances(f, r) - distances(f, f) - among_real) * pairs).sum() / pairs.sum().clamp(min=1)
        scale = (among_real * others).sum() / others.sum().clamp(min=1)
        total = total + distance / scale.clamp(min=1e-6)
    return total / len(fake)


def pooled(x: Tensor) -> Tensor:
    """Maps (B, C, H, W) -> vectors: means and standard deviations over places, and means of the four quarters."""
    x = x.float()
    means = x.mean((2, 3), keepdim=True)
    parts = [means.flatten(1)]
    if x.shape[2] > 1:
        # Not torch's var, which takes a CPU many times as long over the outer dimensions of channels-last maps.
        squares = (x - means).square().sum((2, 3)) / (x.shape[2] * x.shape[3] - 1)
        parts.append((squares + 1e-4).sqrt())
    if x.shape[2] > 2:
        parts.append(F.adaptive_avg_pool2d(x, 2).flatten(1))
    return torch.cat(parts, dim=1)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """(A, D) and (B, D) -> (A, B), float32; a little more than 0 where they are equal, so that there is a gradient.

    ||a - b||² = ||a||² + ||b||² - 2 a·b needs no (A, B, D) differences. A shift of both by a mean keeps it exact.
    """
    with full_precision(a):
        centre = b.mean(0)
        a, b = a - centre, b - centre
        squares = a.square().sum(1, keepdim=True) + b.square().sum(1)
        return (torch.addmm(squares, a, b.t(), alpha=-2).clamp(min=0) + 1e-6).sqrt()
