"""What D and G minimise, as two equations: one function for each, read from top to bottom.

    L_D = adversarial + λ_r (D(x) - D(T(x)))² + λ_f (D(G(z)) - D(T(G(z))))²            bCR (ViTGAN §3.2)
          + γ_1/2 ||∇_x D(T(x))||² + γ_2/2 ||∇_x D(T(G(z)))||² + WGAN-GP + LeCam       R1, R2 and others
          + λ_a (1 - cos(p(D_k(T(x))), f(T(x))))        alignment of D's tokens after block k with a frozen network f (REPA)
          - log c(T(x))_y                               a classifier c on D's features learns the class y (AC-GAN)
    L_G = adversarial + path length + ||G_i(z) - G_N(z) brought down to level i||²        of levels i < N (CAT)
          - λ_c log c(T(G(z)))_y + energy distance + what leaves [-1, 1]                  (AC-GAN; ours)

x is a real image, G(z) a fake one, T is DiffAugment, one T for each image of a step. Where G has levels, x and G(z) are all
of them (`vitgan.models.levels`). With `diffaugment` the adversarial terms see T(x) and T(G(z)), else x and G(z). R1 and R2
are taken at the images themselves, through the augmentation, as in StyleGAN2-ADA, R3GAN and GAT. A lazy term comes every
k-th step and weighs k times as much.
"""

from collections.abc import Callable
from typing import Annotated, Literal, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import AfterValidator, Field
from torch import Tensor, nn

from vitgan.models.discriminator import Discriminator, Judgement
from vitgan.models.generator import Generator, Noise
from vitgan.schema import Config
from vitgan.training.augment import AugmentConfig, augment
from vitgan.training.losses import (
    LOSSES,
    alignment,
    consistency,
    energy_distance,
    finite_difference_penalty,
    gradient_penalty,
    interpolation_penalty,
    lecam,
    level_consistency,
    out_of_range,
    path_lengths,
)
from vitgan.training.randomness import StepRandomness


def _known_loss(name: str) -> str:
    if name not in LOSSES:
        raise ValueError(f"Input should be one of {', '.join(LOSSES)}")
    return name


class ObjectiveConfig(Config):
    """What G and D minimise. The defaults are the paper's."""

    loss: Annotated[str, AfterValidator(_known_loss)] = "non_saturating"
    """non_saturating, hinge, wasserstein, relativistic, or a loss that your program added to `LOSSES` of
    `vitgan.training.losses`."""
    diffaugment: bool = True
    """Whether the adversarial terms of G and D see augmented images."""
    bcr_real: float = Field(default=10.0, ge=0)
    """lambda_r of balanced consistency regularisation."""
    bcr_fake: float = Field(default=10.0, ge=0)
    """lambda_f of balanced consistency regularisation."""
    bcr_ramp_images: int = Field(default=0, ge=0)
    """Both lambdas rise linearly from 0 over this many images: D learns to tell real from fake first."""
    r1_gamma: float = Field(default=0.0, ge=0)
    """gamma of R1, gamma / 2 · E ||∇_x D(T(x))||² at real images x."""
    r2_gamma: float = Field(default=0.0, ge=0)
    """gamma of R2, the same on fake images."""
    penalty: Literal["exact", "finite_difference"] = "exact"
    """How R1 and R2 are computed: exactly, by double backward; or by the difference of logits under small noise, which is
    faster."""
    penalty_noise: float = Field(default=0.03, gt=0)
    """Standard deviation of that noise, for images in [-1, 1]. GAT's is 0.01. With larger noise the estimate is
    wrong where D is curved; with smaller noise bf16 rounds too much (docs/performance.md)."""
    penalty_interval: int = Field(default=1, ge=1)
    """R1, R2 and WGAN-GP come every this many steps, with their weight times this number."""
    wgan_gp: float = Field(default=0.0, ge=0)
    """Weight of the WGAN-GP penalty, customarily 10."""
    lecam: float = Field(default=0.0, ge=0)
    """Weight of LeCam regularisation, by its paper's equation; its code has a ReLU, and starts after 1,000 steps."""
    lecam_decay: float = Field(default=0.99, ge=0, lt=1)
    """Share of the running means of the logits that stays each step."""
    alignment: float = Field(default=0.0, ge=0)
    """Weight of the alignment of D's tokens on real images with a frozen network's features, in D's loss (REPA's idea, GAT's
    option); needs discriminator.alignment_features."""
    energy: float = Field(default=0.0, ge=0)
    """Weight in G's loss of the energy distance between fakes and real images in frozen features. It gives variety
    within a class. Needs a D of kind projected. It compares the images of a micro-batch, or of a process's share."""
    classification: float = Field(default=0.0, ge=0)
    """Weight in G's loss of the cross entropy of its images' classes, by a classifier on D's features (of a D of kind
    projected, the frozen ones) that learns from real images alone: things of a class are more often to be recognised. Needs
    classes and discriminator.classifier."""
    level_consistency: float = Field(default=0.0, ge=0)
    """Weight in G's loss of the mean squared difference between each lower level and the last image, at that level's
    resolution. The term is CAT's, for scaled levels; CAT states no weight and no distance."""
    out_of_range: float = Field(default=0.0, ge=0)
    """Weight in G's loss of pixel values beyond [-1, 1]: the excess squared, summed over an image."""
    path_length: float = Field(default=0.0, ge=0)
    """Weight of StyleGAN2's path length regularisation of G, customarily 2."""
    path_length_interval: int = Field(default=4, ge=1)
    """Path length comes every this many steps, on half of the batch, with its weight times this number."""
    style_mixing: float = Field(default=0.0, ge=0, le=1)
    """Probability that an image's later layers take another latent's style; StyleGAN2's is 0.9, off on CIFAR-10."""

    @property
    def needs_double_backward(self) -> bool:
        """Whether any term differentiates a gradient."""
        exact = self.penalty == "exact" and bool(self.r1_gamma or self.r2_gamma)
        return exact or self.wgan_gp > 0 or self.path_length > 0


Parts = dict[str, Tensor]
"""Terms of a loss without their weights, and statistics beside them: scalars on the device, detached."""


class Batch(NamedTuple):
    """What a loss is computed on: some rows of one step's batch. `Objective.batch` makes it.

    Attributes:
        real: Real images (B, C, H, W), float32 in [-1, 1].
        labels: (B,) int64 for a conditional model.
        randomness: Draws for these rows.
        penalises: Whether R1, R2 and WGAN-GP come at this step.
        has_path_length: Whether path length comes at this step.
        ramp: Share of bCR's lambdas that is reached, a scalar.
    """

    real: Tensor
    labels: Tensor | None
    randomness: StepRandomness
    penalises: bool
    has_path_length: bool
    ramp: Tensor

    def share(self, index: int, count: int) -> "Batch":
        """The `index`-th of `count` equal parts."""
        rows = slice(index * len(self.real) // count, (index + 1) * len(self.real) // count)
        labels = self.labels[rows] if self.labels is not None else None
        return self._replace(real=self.real[rows], labels=labels, randomness=self.randomness.share(index, count))


class Objective(nn.Module):
    """The losses of D and G on one batch; the running means that some terms need are its buffers."""

    real_average: Tensor
    fake_average: Tensor
    path_average: Tensor
    probability: Tensor | None

    def __init__(
        self,
        config: ObjectiveConfig,
        augmentation: AugmentConfig,
        mean_over_processes: Callable[[Tensor], Tensor] = lambda tensor: tensor,
    ) -> None:
        """Starts with running means of 0.

        `mean_over_processes` averages a tensor over all processes: running means must be the same on each.
        """
        super().__init__()
        self.config, self.augmentation = config, augmentation
        self.mean_over_processes = mean_over_processes
        for name in ("real_average", "fake_average", "path_average"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("probability", torch.zeros(()) if augmentation.adaptive else None)

    def batch(
        self, real: Tensor, labels: Tensor | None, randomness: StepRandomness, step: int, images_seen: int
    ) -> Batch:
        """A batch and what the losses have at that step; arguments as in `Batch`.

        Args:
            step: Updates done; a lazy term comes when they are a multiple of its interval.
            images_seen: Real images that D has seen, on which the ramp depends.
        """
        config = self.config
        ramp = min(1.0, images_seen / config.bcr_ramp_images) if config.bcr_ramp_images else 1.0
        return Batch(
            real,
            labels,
            randomness,
            penalises=step % config.penalty_interval == 0,
            has_path_length=step % config.path_length_interval == 0,
            ramp=torch.full((), ramp, device=real.device),
        )

    def discriminator_loss(
        self, generator: Generator, discriminator: Discriminator, batch: Batch
    ) -> tuple[Tensor, Parts]:
        """L_D on a batch of real images and as many fakes, a scalar with its graph, and its parts; G gets no gradient."""
        real, labels, randomness, ramp = batch.real, batch.labels, batch.randomness, batch.ramp
        config, exact, lazy = self.config, self.config.penalty == "exact", self.config.penalty_interval
        r1, r2, wgan_gp = (
            batch.penalises and weight > 0 for weight in (config.r1_gamma, config.r2_gamma, config.wgan_gp)
        )

        # Draw and augment. What D sees: the adversarial images, then those that regularisers compare them with.
        with torch.no_grad():
            fake = self.fakes("discriminator", generator, labels, len(real), randomness).to(real.dtype)
            real = generator.levels_of(real, noise_of("discriminator real", randomness))
        x_real, x_fake = real.detach().requires_grad_(r1 and exact), fake.detach().requires_grad_(r2 and exact)
        views = {
            "real": self.seen("discriminator real", x_real, randomness),
            "fake": self.seen("discriminator fake", x_fake, randomness),
        }
        if config.bcr_real:
            views["real_pair"] = self.pair("discriminator real", real, randomness)
        if config.bcr_fake:
            views["fake_pair"] = self.pair("discriminator fake", fake, randomness)
        if r1 and not exact:
            views["real_noisy"] = self.seen("discriminator real", self.noisy("real", real, randomness), randomness)
        if r2 and not exact:
            views["fake_noisy"] = self.seen("discriminator fake", self.noisy("fake", fake, randomness), randomness)
        if wgan_gp:
            share = randomness.uniform("interpolation", len(real)).view(-1, *[1] * (real.ndim - 1))
            views["mixed"] = views["real"].lerp(views["fake"], share).detach().requires_grad_()

        # D, on all of them at once.
        judgements = self.judged(discriminator, views, labels)
        d = {name: judgement.logits for name, judgement in judgements.items()}

        # L_D, term by term.
        loss = adversarial = LOSSES[config.loss].discriminator(d["real"], d["fake"])
        parts = {"loss/adversarial": adversarial}
        if config.bcr_real:
            parts["loss/bcr_real"] = consistency(d["real"], d["real_pair"])
            loss = loss + ramp * config.bcr_real * parts["loss/bcr_real"]
        if config.bcr_fake:
            parts["loss/bcr_fake"] = consistency(d["fake"], d["fake_pair"])
            loss = loss + ramp * config.bcr_fake * parts["loss/bcr_fake"]
        if r1:
            parts["loss/r1"] = self.penalty(d, "real", x_real)
            loss = loss + lazy * config.r1_gamma / 2 * parts["loss/r1"]
        if r2:
            parts["loss/r2"] = self.penalty(d, "fake", x_fake)
            loss = loss + lazy * config.r2_gamma / 2 * parts["loss/r2"]
        if wgan_gp:
            parts["loss/wgan_gp"] = interpolation_penalty(d["mixed"], views["mixed"])
            loss = loss + lazy * config.wgan_gp * parts["loss/wgan_gp"]
        if config.lecam:
            self.follow_logits(d["real"], d["fake"])
            parts["loss/lecam"] = lecam(d["real"], d["fake"], self.real_average, self.fake_average)
            loss = loss + config.lecam * parts["loss/lecam"]
        if config.alignment:
            parts["loss/alignment"] = alignment(*discriminator.aligned(views["real"].detach()))
            loss = loss + config.alignment * parts["loss/alignment"]
        classes = judgements["real"].classes
        if config.classification and labels is not None and classes is not None:
            parts["loss/classification_real"] = F.cross_entropy(classes, labels)
            loss = loss + parts["loss/classification_real"]
        if self.probability is not None:
            # What a loss that pairs images decides is which of the two is real: its logits have no zero.
            answers = d["real"] - d["fake"] if LOSSES[config.loss].generator_sees_real else d["real"]
            parts |= {"augment/sureness": answers.sign().mean(), "augment/probability": self.probability.clone()}
        parts |= {"loss/discriminator": loss, "logits/real": d["real"].mean(), "logits/fake": d["fake"].mean()}
        return loss, {name: value.detach() for name, value in parts.items()}

    def generator_loss(self, generator: Generator, discriminator: Discriminator, batch: Batch) -> tuple[Tensor, Parts]:
        """L_G on as many new fakes, and its parts; D should be frozen. Relativistic losses see the real images too."""
        real, labels, randomness = batch.real, batch.labels, batch.randomness
        config, adversarial = self.config, LOSSES[self.config.loss]

        # Draw, augment, and ask D; real images need no graph.
        fake = self.fakes("generator", generator, labels, len(real), randomness).to(real.dtype)
        d_real, real_maps = None, ()
        with torch.no_grad():
            if adversarial.generator_sees_real:
                levels = generator.levels_of(real, noise_of("generator real", randomness))
                d_real = discriminator(self.seen("generator real", levels, randomness), labels)
            if config.energy:
                real_maps = discriminator.frozen_maps(self.seen("generator real", real, randomness))
        of_fake = self.judged(discriminator, {"fake": self.seen("generator fake", fake, randomness)}, labels)["fake"]

        # L_G, term by term.
        loss = adversarial.generator(d_real, of_fake.logits)
        parts = {"loss/generator": loss}
        if config.energy:
            parts["loss/energy"] = energy_distance(of_fake.features, real_maps, labels)
            loss = loss + config.energy * parts["loss/energy"]
        if config.classification and labels is not None and of_fake.classes is not None:
            parts["loss/classification"] = F.cross_entropy(of_fake.classes, labels)
            loss = loss + config.classification * parts["loss/classification"]
        if config.level_consistency:
            anchor = generator.levels_of(fake[:, -1].detach())
            parts["loss/level_consistency"] = level_consistency(fake, anchor)
            loss = loss + config.level_consistency * parts["loss/level_consistency"]
        if config.out_of_range:
            parts["loss/out_of_range"] = out_of_range(fake[:, -1] if fake.ndim == 5 else fake)
            loss = loss + config.out_of_range * parts["loss/out_of_range"]
        if config.path_length and batch.has_path_length:
            parts["loss/path_length"] = self.path_length(generator, labels, max(len(real) // 2, 1), randomness)
            loss = loss + config.path_length_interval * config.path_length * parts["loss/path_length"]
        return loss, {name: value.detach() for name, value in parts.items()}

    def fakes(
        self, purpose: str, generator: Generator, labels: Tensor | None, count: int, randomness: StepRandomness
    ) -> Tensor:
        """New fakes (count, C, H, W), or all their levels (count, N, C, H, W)."""
        z = randomness.normal(f"{purpose} latents", count, generator.z_dim)
        w = generator.styles(generator.mapping(z, labels))  # (count, num_styles, w_dim)
        if self.config.style_mixing and generator.num_styles > 1:
            z = randomness.normal(f"{purpose} mixing latents", count, generator.z_dim)
            draws = randomness.uniform(f"{purpose} mixing", count, 2)
            # From a uniformly drawn layer on, or from none: beyond the last.
            first = 1 + (draws[:, 0] * (generator.num_styles - 1)).long()
            first = torch.where(draws[:, 1] < self.config.style_mixing, first, generator.num_styles)
            later = torch.arange(generator.num_styles, device=z.device) >= first.unsqueeze(1)
            w = torch.where(later.unsqueeze(2), generator.styles(generator.mapping(z, labels)), w)
        return generator.levels(w, noise_of(purpose, randomness))

    def judged(
        self, discriminator: Discriminator, views: dict[str, Tensor], labels: Tensor | None
    ) -> dict[str, Judgement]:
        """What D says of every view (B, C, H, W), all in one batch.

        Those whose gradient is penalised are a batch of their own: a second derivative is taken through all that was in it.
        """
        beside_logits = bool(self.config.energy or self.config.classification)
        judgements: dict[str, Judgement] = {}
        for differentiated in (False, True):
            names = [name for name, images in views.items() if images.requires_grad == differentiated]
            if names:
                images = torch.cat([views[name] for name in names])
                repeated = labels.repeat(len(names)) if labels is not None else None
                if beside_logits:
                    whole = discriminator.judge(images, repeated, num_sets=len(names))
                else:
                    whole = Judgement(discriminator(images, repeated, num_sets=len(names)))
                judgements |= dict(zip(names, whole.parts(len(names)), strict=True))
        return judgements

    def augmented(self, purpose: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """T(x) (B, C, H, W): in one step the same T for the same purpose."""
        shape = len(images), images.shape[-1]
        parameters = randomness.augmentation(purpose, self.augmentation, *shape, self.probability)
        return augment(images, parameters, self.augmentation)

    def seen(self, purpose: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """The images as the adversarial terms see them: T(x) with `diffaugment`, else x."""
        return self.augmented(purpose, images, randomness) if self.config.diffaugment else images

    def pair(self, purpose: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """For bCR, of x and T(x) the one that `seen` is not."""
        return images if self.config.diffaugment else self.augmented(purpose, images, randomness)

    def noisy(self, name: str, images: Tensor, randomness: StepRandomness) -> Tensor:
        """x + s n, for the finite differences of R1 and R2."""
        suffix = "_augmented_noisy" if self.config.diffaugment else "_noisy"
        noise = randomness.normal(f"penalty noise {name}{suffix}", *images.shape)
        return images + self.config.penalty_noise * noise

    def penalty(self, logits: dict[str, Tensor], name: str, images: Tensor) -> Tensor:
        """mean ||∇_x D(T(x))||² of R1 and R2, exact or by finite differences."""
        if self.config.penalty == "exact":
            return gradient_penalty(logits[name], images)
        return finite_difference_penalty(logits[name], logits[f"{name}_noisy"], self.config.penalty_noise)

    @torch.no_grad()
    def follow_logits(self, real_logits: Tensor, fake_logits: Tensor) -> None:
        """Moves LeCam's running means."""
        means = self.mean_over_processes(torch.stack([real_logits.mean(), fake_logits.mean()]))
        self.real_average.lerp_(means[0], 1 - self.config.lecam_decay)
        self.fake_average.lerp_(means[1], 1 - self.config.lecam_decay)

    @torch.no_grad()
    def follow_sureness(self, parts: Parts, images: int) -> None:
        """Moves the probability of adaptive augmentation after an update of D, whose parts are the whole batch's.

        After every batch of `images`; ADA does so after every fourth.
        """
        if self.probability is not None and "augment/sureness" in parts:
            assert self.augmentation.adaptive is not None
            step = images / (self.augmentation.adaptive_kimg * 1000)
            self.probability.add_((parts["augment/sureness"] - self.augmentation.adaptive).sign() * step)
            self.probability.clamp_(0, self.augmentation.probability)

    def path_length(
        self, generator: Generator, labels: Tensor | None, count: int, randomness: StepRandomness
    ) -> Tensor:
        """mean (||J_w^T y|| - its running mean)² over `count` new images (Karras et al. 2020)."""
        z = randomness.normal("path length latents", count, generator.z_dim)
        # Every second label: the same pairs of latent and label, however many processes share the batch.
        w = generator.styles(generator.mapping(z, labels[: 2 * count : 2] if labels is not None else None))
        images = generator.synthesis(w)
        lengths = path_lengths(images, w, randomness.normal("path length noise", *images.shape))
        with torch.no_grad():
            self.path_average.lerp_(self.mean_over_processes(lengths.mean()), 0.01)
        return (lengths - self.path_average).square().mean()


def noise_of(purpose: str, randomness: StepRandomness) -> Noise:
    """Standard normal numbers for places of a generator."""
    return lambda place, *shape: randomness.normal(f"{purpose} noise {place}", *shape)
