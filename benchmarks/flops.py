"""FLOPs that a training step needs, counted from the models: what a share of the machine's rate is a share of.

Torch's counter runs over both players on the "meta" device, forward and backward, for each kind of pass that a step
makes; the objective says how many of each. Only what the step's definition asks for is counted, not what an
implementation computes besides (recomputed activations, gradients that nobody uses), nor DiffAugment's few products.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vitgan.config import RunConfig
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.discriminator import Discriminator, Judgement
from vitgan.training.losses import LOSSES
from vitgan.training.objective import Objective
from vitgan.training.randomness import StepRandomness


@dataclass(frozen=True)
class Passes:
    """FLOPs for one image (a multiply-add is two)."""

    generate: int
    """G forward."""
    train_generator: int
    """G forward, and backward to its weights."""
    judge: int
    """D forward."""
    train_discriminator: int
    """D forward, and backward to its weights."""
    judge_fake: int
    """D forward, and backward to the images, D's weights being fixed: its part of a G update."""
    penalize: int
    """What ||∇_x D(x)||² adds to `train_discriminator`: one backward to the images, itself differentiated."""
    path_length: int
    """G's path length: forward, backward to the styles, itself differentiated to the weights."""
    align: int
    """The frozen network, D's first blocks forward, and backward to their weights."""


def passes(model: ModelConfig, exact: bool = False, path_length: bool = False, alignment: bool = False) -> Passes:
    """Counts each kind of pass; the last three only if asked for."""
    generator = build_generator(model.generator_spec(), device="meta")
    discriminator = build_discriminator(model, device="meta")
    shape = (model.channels, model.resolution, model.resolution)

    def generate(count: int) -> Tensor:
        z = torch.empty(count, generator.z_dim, device="meta")
        return generator.levels(generator.styles(generator.mapping(z, _labels(model, count))))

    def judge(count: int, gradient: bool = False) -> tuple[Tensor, Tensor]:
        images = generator.levels_of(torch.empty(count, *shape, device="meta")).requires_grad_(gradient)
        return discriminator(images, _labels(model, count)), images

    def judge_fake(count: int) -> None:
        discriminator.requires_grad_(False)
        judge(count, gradient=True)[0].sum().backward()
        discriminator.requires_grad_(True)

    def penalized(count: int) -> None:
        logits, images = judge(count, gradient=True)
        (_slope(logits, images).square().sum() + logits.sum()).backward(inputs=list(discriminator.parameters()))

    def lengths(count: int) -> None:
        w = generator.styles(generator.mapping(torch.empty(count, generator.z_dim, device="meta")))
        _slope(generator.synthesis(w), w).square().sum().backward()

    def align(count: int) -> None:
        discriminator.aligned(generator.levels_of(torch.empty(count, *shape, device="meta")))[0].sum().backward()

    training = _per_image(lambda count: judge(count)[0].sum().backward(), discriminator)
    return Passes(
        generate=_per_image(torch.no_grad()(generate), generator),
        train_generator=_per_image(lambda count: generate(count).sum().backward(), generator),
        judge=_per_image(torch.no_grad()(judge), discriminator),
        train_discriminator=training,
        judge_fake=_per_image(judge_fake, discriminator),
        penalize=_per_image(penalized, discriminator) - training if exact else 0,
        path_length=_per_image(lengths, generator) if path_length else 0,
        align=_per_image(align, discriminator) if alignment else 0,
    )


def step_flops(config: RunConfig) -> float:
    """FLOPs per image of one update of D and one of G; terms that come every k-th step count 1/k."""
    settings = config.objective
    period = settings.penalty_interval
    watched = images_judged(config, steps=period)
    one = passes(config.model, watched.penalized > 0, settings.path_length > 0, settings.alignment > 0)
    total = one.generate + (watched.judged * one.train_discriminator + watched.penalized * one.penalize) / period
    total += one.train_generator + one.judge_fake + one.align
    if LOSSES[settings.loss].generator_sees_real:
        total += one.judge
    if settings.path_length:
        total += one.path_length / 2 / settings.path_length_interval
    return total


class WatchedDiscriminator(Discriminator):
    """Counts the images that it judges, and those of them at which its gradient is penalised."""

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model.resolution, model.channels, model.num_classes)
        self.judged = self.penalized = 0

    def forward(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Tensor:
        self.judged += len(images)
        self.penalized += len(images) * images.requires_grad
        return images.square().flatten(1).sum(dim=1)

    def judge(self, images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Judgement:
        classes = None if labels is None else images.new_zeros(len(images), int(self.num_classes))
        return Judgement(self(images, labels, num_sets), classes)

    def aligned(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


def images_judged(config: RunConfig, steps: int) -> WatchedDiscriminator:
    """What D sees in its updates of so many steps, with a batch of one image."""
    model = config.model
    objective, watched = Objective(config.objective, config.augment), WatchedDiscriminator(model)
    generator = build_generator(model.generator_spec(), device="meta")
    real, labels = torch.zeros(1, model.channels, model.resolution, model.resolution, device="meta"), _labels(model, 1)
    for step in range(steps):
        randomness = StepRandomness(0, step, device=torch.device("meta"))
        objective.discriminator_loss(generator, watched, objective.batch(real, labels, randomness, step, step))
    return watched


def _per_image(run: Callable[[int], object], module: nn.Module) -> int:
    """The difference between two batches, so that what does not grow with the batch is left out."""
    totals = []
    for size in (4, 8):
        with FlopCounterMode(display=False) as counter:
            run(size)
        totals.append(counter.get_total_flops())
        module.zero_grad()
    return (totals[1] - totals[0]) // 4


def _slope(output: Tensor, leaf: Tensor) -> Tensor:
    """The output's gradient, differentiable; by `backward`, since torch's counter does not bear `autograd.grad`."""
    leaf.retain_grad()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a reference cycle, which is cut below
        output.sum().backward(inputs=[leaf], create_graph=True)
    gradient, leaf.grad = leaf.grad, None
    assert gradient is not None
    return gradient


def _labels(model: ModelConfig, count: int) -> Tensor | None:
    return torch.zeros(count, dtype=torch.long, device="meta") if model.num_classes else None
