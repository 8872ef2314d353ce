"""The library against the naive baseline: the same forward passes, losses, gradients and training step."""

import pytest
import torch
from accelerate import Accelerator
from torch import Tensor

from reference import naive
from reference.draws import normal, perturb
from tiny import tiny_model
from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.presets import preset
from vitgan.training.augment import AugmentConfig, augment
from vitgan.training.config import TrainingConfig
from vitgan.training.ema import average_decay
from vitgan.training.loop import Trainer
from vitgan.training.objective import Objective, ObjectiveConfig
from vitgan.training.randomness import StepRandomness


class DoubleRandomness(StepRandomness):
    """The same draws in float64."""

    def normal(self, purpose: str, *shape: int) -> Tensor:
        return super().normal(purpose, *shape).double()

    def uniform(self, purpose: str, *shape: int) -> Tensor:
        return super().uniform(purpose, *shape).double()


def draws_of(randomness: StepRandomness, count: int, z_dim: int, resolution: int) -> naive.Draws:
    """The library's draws of a step."""
    purposes = ("discriminator real", "discriminator fake", "generator fake")
    real, fake, generator_fake = (
        naive.Augmentation(*randomness.augmentation(purpose, AugmentConfig(), count, resolution))
        for purpose in purposes
    )
    z_discriminator = randomness.normal("discriminator latents", count, z_dim)
    z_generator = randomness.normal("generator latents", count, z_dim)
    return naive.Draws(z_discriminator, z_generator, real, fake, generator_fake)


def sizes_of(model: ModelConfig) -> naive.Sizes:
    patch_size, heads = model.generator.patch_size, model.generator.num_heads  # pyright: ignore[reportAttributeAccessIssue]
    return naive.Sizes(model.resolution // patch_size, patch_size, heads)


MODELS = {"tiny": (tiny_model(), 3), "cifar10": (preset("cifar10").model, 1)}


@pytest.mark.parametrize(("model", "count"), MODELS.values(), ids=MODELS)
def test_generator_equals_the_naive_one(model: ModelConfig, count: int) -> None:
    generator = perturb(build_generator(model.generator_spec()).double())
    z = normal(count, generator.z_dim)
    with torch.no_grad():
        expected = naive.generator(generator.state_dict(), z, sizes_of(model))
        torch.testing.assert_close(generator(z), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("model", "count"), MODELS.values(), ids=MODELS)
def test_discriminator_equals_the_naive_one_at_its_power_iteration(model: ModelConfig, count: int) -> None:
    discriminator = perturb(build_discriminator(model).double())
    weights = discriminator.state_dict()
    weights = {name: tensor.clone() for name, tensor in weights.items()}
    images = normal(count, 3, model.resolution, model.resolution)
    with torch.no_grad():
        expected = naive.discriminator(weights, images, sizes_of(model), power_iterations=1)
        update_spectral_norms(discriminator)
        torch.testing.assert_close(discriminator(images), expected, rtol=1e-9, atol=1e-9)
    for name, vector in discriminator.named_buffers():  # both have moved the vectors once
        torch.testing.assert_close(vector, weights[name])


def test_augmentation_equals_the_naive_one() -> None:
    config, images = AugmentConfig(), normal(40, 3, 16, 16)
    parameters = DoubleRandomness(0, 0).augmentation("images", config, 40, 16)
    expected = naive.diffaugment(images, naive.Augmentation(*parameters))
    assert (expected == images).all(dim=(1, 2, 3)).sum() < 5
    torch.testing.assert_close(augment(images, parameters, config), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("probability", [0.0, 0.8])
def test_discriminator_loss_and_gradients_equal_the_naive_ones(probability: float) -> None:
    """Without augmentation T(x) = x and bCR is 0; with it every term counts."""
    model, augmentation = tiny_model(), AugmentConfig(probability=probability)
    generator = perturb(build_generator(model.generator_spec()).double())
    discriminator = perturb(build_discriminator(model).double())
    update_spectral_norms(discriminator, steps=2000)  # each further iteration then changes nothing
    trainer = naive.NaiveTrainer(generator.state_dict(), discriminator.state_dict(), sizes_of(model))

    real, randomness = normal(4, 3, 8, 8, seed=5), DoubleRandomness(0, 0)
    objective = Objective(ObjectiveConfig(), augmentation)
    loss, parts = objective.discriminator_loss(generator, discriminator, objective.batch(real, None, randomness, 0, 0))
    loss.backward()
    draws = draws_of(randomness, 4, 8, 8)
    if probability == 0:
        neutral = naive.Augmentation(*randomness.augmentation("", augmentation, 4, 8))
        draws = draws._replace(real=neutral, fake=neutral)
        assert parts["loss/bcr_real"].item() == 0
    else:
        assert parts["loss/bcr_real"].item() > 1e-5
    expected = trainer.discriminator_loss(real, draws)
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-10)
    expected.backward()
    for name, parameter in discriminator.named_parameters():
        gradient = trainer.discriminator[name].grad
        assert gradient is not None
        torch.testing.assert_close(
            parameter.grad, gradient, rtol=1e-6, atol=1e-8, msg=lambda m, name=name: f"{name}: {m}"
        )


def test_whole_steps_equal_the_naive_ones(tmp_path) -> None:
    """Two whole steps, with augmentation, bCR, both Adams and the average.

    The naive players keep the spectral vectors that the library has during a step: theirs would move more often.
    """
    model, config = tiny_model(), TrainingConfig(batch_size=4, precision="float32", trackers=())
    trainer = Trainer(model, ObjectiveConfig(), AugmentConfig(), config, Accelerator(cpu=True), tmp_path)
    state = trainer.state
    for player in (state.generator, state.discriminator, state.generator_ema):
        player.double()
    with torch.no_grad():
        for average, parameter in zip(state.generator_ema.parameters(), state.generator.parameters(), strict=True):
            average.copy_(parameter)
    expected = naive.NaiveTrainer(
        state.generator.state_dict(), state.discriminator.state_dict(), sizes_of(model), power_iterations=0
    )
    before = {name: p.detach().clone() for name, p in state.discriminator.named_parameters()}
    for step in range(2):
        real, randomness = normal(4, 3, 8, 8, seed=step), DoubleRandomness(0, step)
        trainer.step(real, None, randomness)
        vectors = {name: b.clone() for name, b in state.discriminator.named_buffers() if "weight_norm" in name}
        expected.discriminator |= vectors
        decay = average_decay(4, 4 * (step + 1), config.ema_half_life_images, config.ema_warmup)
        expected.step(real, draws_of(randomness, 4, 8, 8), decay)

    for found, weights in (
        (state.generator, expected.generator),
        (state.discriminator, expected.discriminator),
        (state.generator_ema, expected.average),
    ):
        for name, parameter in found.named_parameters():
            torch.testing.assert_close(
                parameter.data, weights[name].data, rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}"
            )
    moved = [name for name, p in state.discriminator.named_parameters() if (p - before[name]).abs().max() > 1e-5]
    assert set(before) - set(moved) == set()
