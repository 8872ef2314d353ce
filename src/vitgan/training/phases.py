"""The GAN step: which loss terms make up the discriminator's and the generator's update.

A step has two phases, D then G. D's loss is a list of terms, each with a weight, an interval in steps (lazy
regularisation: a term that runs every k-th step weighs k times as much) and the *views* of the batch that it looks at:

    real, fake                        the images x as they are
    real_augmented, fake_augmented    T(x), DiffAugment
    ..._noisy                         the same of x plus Gaussian noise, for finite-difference penalties
    mixed                             random points between the images that D sees, for WGAN-GP

R1 and R2 are taken at the images themselves, ||∇_x D(T(x))||², through the augmentation, as in StyleGAN2-ADA, R3GAN and GAT.

The union of the views that the terms of a step need goes through D as one batch, once (those that an exact penalty
differentiates twice as a batch of their own). With `diffaugment` the adversarial
terms of both players see the augmented views; bCR ties D(x) to D(T(x)) either way (ViTGAN §3.2).
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from vitgan.augment import AugmentConfig, AugmentParameters, augment
from vitgan.losses import LOSSES, LossName
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.regularizers import (
    consistency,
    finite_difference_penalty,
    gradient_penalty,
    interpolation_penalty,
    lecam,
    path_lengths,
)
from vitgan.schema import Config
from vitgan.training.randomness import StepRandomness


class ObjectiveConfig(Config):
    """What the two players minimise. The defaults are the paper's."""

    loss: LossName = "non_saturating"
    diffaugment: bool = True
    """Whether both players' adversarial terms see augmented images."""
    bcr_real: float = Field(default=10.0, ge=0)
    """lambda_r of balanced consistency regularisation."""
    bcr_fake: float = Field(default=10.0, ge=0)
    """lambda_f of balanced consistency regularisation."""
    bcr_ramp_images: int = Field(default=0, ge=0)
    """Both lambdas rise linearly from 0 over this many images: D learns to tell real from fake first [choice]."""
    r1_gamma: float = Field(default=0.0, ge=0)
    """gamma of R1, gamma / 2 · E ||∇_x D(T(x))||² at real images x."""
    r2_gamma: float = Field(default=0.0, ge=0)
    """gamma of R2, the same on fake images."""
    penalty: Literal["exact", "finite_difference"] = "exact"
    """R1 and R2 by double backward, or by first-order differences under small noise."""
    penalty_noise: float = Field(default=0.03, gt=0)
    """Standard deviation of that noise, in units of the image range [-1, 1] [choice]: larger noise sees D's curvature,
    smaller noise (GAT's is 0.01) the rounding of bf16 (docs/performance.md)."""
    penalty_interval: int = Field(default=1, ge=1)
    """R1, R2 and WGAN-GP every this many steps (their weight is multiplied by it)."""
    wgan_gp: float = Field(default=0.0, ge=0)
    """Weight of the WGAN-GP penalty, customarily 10."""
    lecam: float = Field(default=0.0, ge=0)
    """Weight of LeCam regularisation, by its paper's equation; its code has a ReLU, and starts after 1,000 steps."""
    lecam_decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of the running means of the logits that stays each step."""
    path_length: float = Field(default=0.0, ge=0)
    """Weight of StyleGAN2's path length regularisation of G, customarily 2."""
    path_length_interval: int = Field(default=4, ge=1)
    """Path length every this many steps (its weight is multiplied by it), on half of the batch."""
    style_mixing: float = Field(default=0.0, ge=0, le=1)
    """Probability that an image's later layers take another latent's style; StyleGAN2's is 0.9, off on CIFAR-10."""

    @property
    def needs_double_backward(self) -> bool:
        """Whether any term differentiates a gradient."""
        exact = self.penalty == "exact" and bool(self.r1_gamma or self.r2_gamma)
        return exact or self.wgan_gp > 0 or self.path_length > 0


class Views:
    """One step's views of the batch, by name.

    Attributes:
        points: What each view was made from (B, C, H, W): a leaf, where a penalty takes D's gradient.
        images: What D sees (B, C, H, W).
        logits: What D said (B,), once it has seen them.
    """

    def __init__(self, points: dict[str, Tensor], images: dict[str, Tensor]) -> None:
        self.points, self.images = points, images
        self.logits: dict[str, Tensor] = {}

    def run(self, discriminator: Discriminator, labels: Tensor | None) -> None:
        """All views through D as one batch; those whose gradients are penalised as another.

        Apart, because a second derivative is taken through all that was in the batch.
        """
        for penalised in (False, True):
            names = [name for name, x in self.images.items() if x.requires_grad == penalised]
            if names:
                images = torch.cat([self.images[name] for name in names])
                view_labels = labels.repeat(len(names)) if labels is not None else None
                logits = discriminator(images, view_labels, num_sets=len(names))
                self.logits |= dict(zip(names, logits.chunk(len(names)), strict=True))


class Term(NamedTuple):
    """One term of D's loss."""

    name: str
    weight: float
    views: tuple[str, ...]
    compute: Callable[[Views], Tensor]
    interval: int = 1
    differentiates_images: bool = False
    ramp_images: int = 0

    def weight_at(self, images_seen: int) -> float:
        """The term's weight after so many images, in a step in which it is due."""
        ramp = min(1.0, images_seen / self.ramp_images) if self.ramp_images else 1.0
        return self.weight * self.interval * ramp


Parts = dict[str, Tensor]
"""Named parts of a loss and statistics of a phase: scalars on the device, detached."""


class Objective(nn.Module):
    """Both players' losses on one batch, and the running means that some of them need, in buffers."""

    real_average: Tensor
    fake_average: Tensor
    path_average: Tensor

    def __init__(
        self,
        config: ObjectiveConfig,
        augmentation: AugmentConfig,
        mean_over_processes: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        """Sets up the terms.

        Args:
            config: Which terms, with what weight.
            augmentation: DiffAugment's.
            mean_over_processes: Averages a tensor over all processes; running means must be the same on each.
        """
        super().__init__()
        self.config, self.augmentation = config, augmentation
        self.mean_over_processes = mean_over_processes
        self.loss = LOSSES[config.loss]
        suffix = "_augmented" if config.diffaugment else ""
        self.real_view, self.fake_view = "real" + suffix, "fake" + suffix
        for name in ("real_average", "fake_average", "path_average"):
            self.register_buffer(name, torch.zeros(()))
        self.terms = self.discriminator_terms()

    def discriminator_terms(self) -> list[Term]:
        """D's loss as a list of terms: the adversarial one, then every regulariser that is on."""
        config, real, fake = self.config, self.real_view, self.fake_view
        adversarial = self.loss.discriminator
        terms = [Term("adversarial", 1.0, (real, fake), lambda v: adversarial(v.logits[real], v.logits[fake]))]
        if config.bcr_real:
            terms.append(_consistency_term("real", config.bcr_real, config.bcr_ramp_images))
        if config.bcr_fake:
            terms.append(_consistency_term("fake", config.bcr_fake, config.bcr_ramp_images))
        if config.r1_gamma:
            terms.append(_penalty_term("r1", config.r1_gamma, real, config))
        if config.r2_gamma:
            terms.append(_penalty_term("r2", config.r2_gamma, fake, config))
        if config.wgan_gp:

            def penalty(v: Views) -> Tensor:
                return interpolation_penalty(v.logits["mixed"], v.points["mixed"])

            terms.append(Term("wgan_gp", config.wgan_gp, ("mixed",), penalty, config.penalty_interval, True))
        if config.lecam:
            terms.append(Term("lecam", config.lecam, (real, fake), self._lecam))
        return terms

    def _lecam(self, views: Views) -> Tensor:
        real, fake = views.logits[self.real_view], views.logits[self.fake_view]
        with torch.no_grad():
            means = self.mean_over_processes(torch.stack([real.mean(), fake.mean()]))
            self.real_average.lerp_(means[0], 1 - self.config.lecam_decay)
            self.fake_average.lerp_(means[1], 1 - self.config.lecam_decay)
        return lecam(real, fake, self.real_average, self.fake_average)

    def discriminator_loss(
        self,
        generator: Generator,
        discriminator: Discriminator,
        real: Tensor,
        labels: Tensor | None,
        randomness: StepRandomness,
    ) -> tuple[Tensor, Parts]:
        """D's loss on a batch of real images (B, C, H, W) in [-1, 1] and as many fakes; G gets no gradient."""
        with torch.no_grad():
            fake = self.fakes(generator, labels, "discriminator", len(real), randomness)
        due = [term for term in self.terms if randomness.step % term.interval == 0]
        views = self.make_views(due, real, fake.to(real.dtype), randomness)
        views.run(discriminator, labels)

        parts = {f"loss/{term.name}": term.compute(views) for term in due}
        images_seen = randomness.images_before(len(real))
        total = sum(
            (parts[f"loss/{term.name}"] * term.weight_at(images_seen) for term in due), start=real.new_zeros(())
        )
        parts = {name: value.detach() for name, value in parts.items()}
        parts["loss/discriminator"] = total.detach()
        parts["logits/real"] = views.logits[self.real_view].detach().mean()
        parts["logits/fake"] = views.logits[self.fake_view].detach().mean()
        return total, parts

    def generator_loss(
        self,
        generator: Generator,
        discriminator: Discriminator,
        real: Tensor,
        labels: Tensor | None,
        randomness: StepRandomness,
    ) -> tuple[Tensor, Parts]:
        """G's loss on new fakes; `real` is looked at by relativistic losses only. D should be frozen."""
        fake = self.fakes(generator, labels, "generator", len(real), randomness).to(real.dtype)
        real_logits = None
        if self.loss.generator_sees_real:
            with torch.no_grad():
                real_logits = discriminator(self._seen(real, "generator real", randomness), labels)
        fake_logits = discriminator(self._seen(fake, "generator fake", randomness), labels)
        total = self.loss.generator(real_logits, fake_logits)
        parts = {"loss/generator": total.detach()}
        if self.config.path_length and randomness.step % self.config.path_length_interval == 0:
            penalty = self.path_length_penalty(generator, labels, len(real), randomness)
            parts["loss/path_length"] = penalty.detach()
            total = total + penalty * (self.config.path_length * self.config.path_length_interval)
        return total, parts

    def path_length_penalty(
        self, generator: Generator, labels: Tensor | None, batch_size: int, randomness: StepRandomness
    ) -> Tensor:
        """(||J_w^T y|| - running mean)² (Karras et al. 2020), on half as many images as the batch has."""
        count = max(batch_size // 2, 1)
        z = randomness.normal("path length latents", count, generator.z_dim).to(generator.w_mean.device)
        w = generator.styles(generator.mapping(z, labels[:count] if labels is not None else None))
        images = generator.synthesis(w)
        noise = randomness.normal("path length noise", *images.shape).to(images.device)
        lengths = path_lengths(images, w, noise)
        with torch.no_grad():
            self.path_average.lerp_(self.mean_over_processes(lengths.mean()), 0.01)
        return (lengths - self.path_average).square().mean()

    def fakes(
        self, generator: Generator, labels: Tensor | None, purpose: str, count: int, randomness: StepRandomness
    ) -> Tensor:
        """New fakes (count, C, H, W)."""
        device = generator.w_mean.device
        z = randomness.normal(f"{purpose} latents", count, generator.z_dim).to(device)
        w = generator.styles(generator.mapping(z, labels))  # (count, num_styles, w_dim)
        if self.config.style_mixing and generator.num_styles > 1:
            z = randomness.normal(f"{purpose} mixing latents", count, generator.z_dim).to(device)
            draws = randomness.uniform(f"{purpose} mixing", count, 2).to(device)
            # From a uniformly drawn layer on, or from none: beyond the last.
            first = 1 + (draws[:, 0] * (generator.num_styles - 1)).long()
            first = torch.where(draws[:, 1] < self.config.style_mixing, first, generator.num_styles)
            later = torch.arange(generator.num_styles, device=device) >= first.unsqueeze(1)
            w = torch.where(later.unsqueeze(2), generator.styles(generator.mapping(z, labels)), w)
        return generator.synthesis(w, randomness.device_generator(f"{purpose} noise", device))

    def make_views(self, terms: list[Term], real: Tensor, fake: Tensor, randomness: StepRandomness) -> Views:
        """The views that `terms` need, each once."""
        names = dict.fromkeys(name for term in terms for name in term.views)
        leaves = {name for term in terms if term.differentiates_images for name in term.views}
        points: dict[str, Tensor] = {}
        images: dict[str, Tensor] = {}
        for name in names:
            source, *changes = name.split("_")
            if source == "mixed":  # listed after the adversarial term's views
                share = randomness.uniform("interpolation", len(real)).to(real.device).view(-1, 1, 1, 1)
                x = images[self.real_view].lerp(images[self.fake_view], share)
            else:
                x = real if source == "real" else fake
            points[name] = x = x.detach().requires_grad_(name in leaves)
            if "noisy" in changes:
                noise = randomness.normal(f"penalty noise {name}", *x.shape).to(x.device)
                x = x + self.config.penalty_noise * noise
            if "augmented" in changes:  # a function of the step: every view of an image gets the same T
                parameters = self._augmentation_parameters(f"discriminator {source}", x, randomness)
                x = augment(x, parameters, self.augmentation)
            images[name] = x
        return Views(points, images)

    def _seen(self, images: Tensor, purpose: str, randomness: StepRandomness) -> Tensor:
        """The images as the adversarial terms see them."""
        if not self.config.diffaugment:
            return images
        return augment(images, self._augmentation_parameters(purpose, images, randomness), self.augmentation)

    def _augmentation_parameters(self, purpose: str, images: Tensor, randomness: StepRandomness) -> AugmentParameters:
        return randomness.augmentation(purpose, self.augmentation, len(images), images.shape[-1])


def _consistency_term(view: str, weight: float, ramp_images: int) -> Term:
    augmented = f"{view}_augmented"

    def term(v: Views) -> Tensor:
        return consistency(v.logits[view], v.logits[augmented])

    return Term(f"bcr_{view}", weight, (view, augmented), term, ramp_images=ramp_images)


def _penalty_term(name: str, gamma: float, view: str, config: ObjectiveConfig) -> Term:
    if config.penalty == "exact":
        return Term(
            name,
            gamma / 2,
            (view,),
            lambda v: gradient_penalty(v.logits[view], v.points[view]),
            config.penalty_interval,
            differentiates_images=True,
        )
    noisy = f"{view}_noisy"
    return Term(
        name,
        gamma / 2,
        (view, noisy),
        lambda v: finite_difference_penalty(v.logits[view], v.logits[noisy], config.penalty_noise),
        config.penalty_interval,
    )
