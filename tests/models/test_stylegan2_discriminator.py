"""The StyleGAN2 discriminator against its slow form: logits, gradients and the gradient of a gradient penalty."""

import copy

import pytest
import torch
from torch import nn
from torch.autograd import gradcheck, gradgradcheck

from reference import stylegan2 as reference
from refusals import refused
from vitgan.models.stylegan2_discriminator import (
    StyleGAN2Discriminator,
    StyleGAN2DiscriminatorConfig,
    append_minibatch_stddev,
)

TINY = StyleGAN2DiscriminatorConfig(channel_base=64, channel_max=8, label_mapping_layers=2)


def discriminator(
    resolution: int = 16, num_classes: int = 0, channels: int = 3, residual: bool = True
) -> StyleGAN2Discriminator:
    """A small discriminator whose biases are not the zeros they start from."""
    torch.manual_seed(0)
    config = TINY.model_copy(update={"residual": residual})
    model = StyleGAN2Discriminator(config, resolution, channels, num_classes)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def slow_logits(model: nn.Module, images: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
    parameters = dict(model.named_parameters())
    return reference.discriminator(
        parameters, images, labels, TINY.minibatch_stddev_group, TINY.label_mapping_lr_multiplier
    )


@pytest.mark.parametrize(
    ("resolution", "num_classes", "channels", "residual", "batch"),
    [(8, 0, 3, True, 4), (16, 0, 1, True, 6), (32, 0, 3, False, 3), (16, 3, 3, True, 9)],
)
def test_logits_and_gradients_equal_the_slow_form(
    resolution: int, num_classes: int, channels: int, residual: bool, batch: int
) -> None:
    model = discriminator(resolution, num_classes, channels, residual).double()
    images = normal(batch, channels, resolution, resolution).double().requires_grad_()
    labels = torch.arange(batch) % num_classes if num_classes else None
    ours, slow = model(images, labels), slow_logits(model, images, labels)
    assert ours.shape == (batch,)
    torch.testing.assert_close(ours, slow)
    inputs = [images, *model.parameters()]
    weights = normal(batch, seed=1).double()
    for a, b in zip(
        torch.autograd.grad(ours @ weights, inputs), torch.autograd.grad(slow @ weights, inputs), strict=True
    ):
        torch.testing.assert_close(a, b)


def test_gradient_penalty_has_the_slow_forms_gradients() -> None:
    """Double backward: R1, the squared gradient with respect to the images, differentiated by every parameter."""
    model = discriminator().double()
    images = normal(6, 3, 16, 16).double().requires_grad_()

    def penalty_gradients(logits: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), list(model.parameters()), materialize_grads=True)

    ours, slow = penalty_gradients(model(images)), penalty_gradients(slow_logits(model, images))
    assert ours[0].abs().max() > 0
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b)


def test_gradcheck_in_float64() -> None:
    torch.manual_seed(0)
    config = StyleGAN2DiscriminatorConfig(channel_base=16, channel_max=2)
    model = StyleGAN2Discriminator(config, 8, 1).double()
    images = normal(2, 1, 8, 8).double().requires_grad_()
    assert gradcheck(model, images)
    assert gradgradcheck(model, images)


def test_minibatch_stddev_equals_the_slow_form_for_any_batch() -> None:
    for batch in (1, 3, 4, 8, 10):
        x = normal(batch, 3, 4, 4).double()
        y = append_minibatch_stddev(x, 4)
        torch.testing.assert_close(y[:, :3], x, rtol=0, atol=0)
        torch.testing.assert_close(y[:, 3:], reference.minibatch_stddev(x, 4))


@pytest.mark.parametrize("size", [1, 3, 4, 6, 8])
def test_sets_do_not_see_each_other(size: int) -> None:
    model = discriminator().double()
    sets = [normal(size, 3, 16, 16, seed=seed).double() for seed in range(3)]
    torch.testing.assert_close(
        model(torch.cat(sets), num_sets=3), torch.cat([slow_logits(model, images) for images in sets])
    )
    if size > 1:  # within a group they do: this is what the layer is for
        assert not torch.allclose(model(sets[0])[0], model(sets[0][:1])[0])


@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_parameter_gets_a_finite_gradient_from_the_start(num_classes: int) -> None:
    torch.manual_seed(0)
    model = StyleGAN2Discriminator(TINY, 16, 3, num_classes)
    labels = torch.arange(4) % num_classes if num_classes else None
    (model(normal(4, 3, 16, 16), labels) * normal(4, seed=1)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_logits_survive_state_dict_and_deepcopy() -> None:
    model = discriminator()
    images = normal(4, 3, 16, 16)
    logits = model(images)
    torch.testing.assert_close(copy.deepcopy(model)(images), logits, rtol=0, atol=0)
    torch.manual_seed(1)
    other = StyleGAN2Discriminator(TINY, 16, 3)
    assert not torch.allclose(other(images), logits)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(images), logits, rtol=0, atol=0)


def test_logits_are_float32_and_close_under_autocast() -> None:
    model = discriminator(32)
    images = normal(8, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.float32
    assert (logits - model(images)).abs().max() < 0.05 * model(images).abs().max()


def test_everything_from_4x4_on_is_float32_under_autocast() -> None:
    """As in StyleGAN2-ADA: minibatch statistics, convolution and both layers of what the last block gave, by hand."""
    model = discriminator(16)
    given: list[torch.Tensor] = []
    model.blocks[-1].register_forward_hook(lambda module, arguments, output: given.append(output.double()))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(normal(8, 3, 16, 16))
    p = {name: value.double() for name, value in model.state_dict().items()}
    x = torch.cat([given[0], reference.minibatch_stddev(given[0], TINY.minibatch_stddev_group)], dim=1)
    x = reference.leaky_relu(reference.conv(p, "conv", x, padding=1)).flatten(1)
    expected = reference.linear(p, "out", reference.leaky_relu(reference.linear(p, "hidden", x)))[:, 0]
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


def test_labels_change_a_conditional_logit() -> None:
    model = discriminator(num_classes=3)
    images = normal(1, 3, 16, 16)
    logits = [model(images, torch.tensor([label])).item() for label in range(3)]
    assert len(set(logits)) == 3


def test_runs_on_shapes_alone() -> None:
    with torch.device("meta"):
        model = StyleGAN2Discriminator(StyleGAN2DiscriminatorConfig(), 64, 3, num_classes=10)
        assert model(torch.empty(5, 3, 64, 64), torch.zeros(5, dtype=torch.long)).shape == (5,)


def test_mistakes_are_named() -> None:
    with refused(28, parameter="model.resolution"):
        StyleGAN2Discriminator(TINY, 28, 3)
    with pytest.raises(ValueError, match="labels"):
        discriminator(num_classes=3)(normal(1, 3, 16, 16))
