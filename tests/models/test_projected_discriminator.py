"""The projected discriminator: frozen features, fixed mixing, small heads."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgan.frozen.features import CHANNELS, LAST_BLOCKS, ROOT_MEAN_SQUARES, LiteFeatures, weights_file
from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.build import ModelConfig, build_discriminator
from vitgan.models.projected_discriminator import (
    FixedMixing,
    ProjectedDiscriminator,
    ProjectedDiscriminatorConfig,
)


def build(num_classes: int = 0, channels: int = 3, **options: object) -> ProjectedDiscriminator:
    config = ProjectedDiscriminatorConfig(width=8, **options)  # pyright: ignore[reportArgumentType]
    spec = ModelConfig(resolution=32, channels=channels, num_classes=num_classes, discriminator=config)  # pyright: ignore[reportArgumentType]
    discriminator = build_discriminator(spec)
    assert isinstance(discriminator, ProjectedDiscriminator)
    return discriminator


def images(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(count, channels, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("name", ["lite0", "lite2"])
def test_maps_are_those_of_the_package(name: str) -> None:
    """Against the package's own network, batch normalisation not folded, read by hooks."""
    from efficientnet_lite_pytorch import EfficientNet

    reference = EfficientNet.from_name(f"efficientnet-{name}", image_size=64)  # its padding depends on the size
    reference.load_state_dict(torch.load(weights_file(name), map_location="cpu", weights_only=True))
    reference.eval()
    seen: list[Any] = []
    for index in LAST_BLOCKS[name]:
        reference._blocks[index].register_forward_hook(lambda module, inputs, output: seen.append(output))
    x = images(2)
    with torch.no_grad():
        reference.extract_features(F.interpolate(x, size=(64, 64), mode="bilinear"))
        maps = LiteFeatures(name, 64)(x)  # pyright: ignore[reportArgumentType]
    assert [m.shape[1] for m in maps] == list(CHANNELS[name])
    assert [m.shape[2] for m in maps] == [16, 8, 4, 2]
    for ours, theirs, scale in zip(maps, seen, ROOT_MEAN_SQUARES, strict=True):
        torch.testing.assert_close(ours * scale, theirs, rtol=1e-3, atol=1e-3)


def test_mixing_is_the_sum_of_what_is_coarser() -> None:
    torch.manual_seed(0)
    mixing = FixedMixing((3, 5), 4)
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    kernels = dict(mixing.named_buffers())

    def smooth(x: Tensor, index: int) -> Tensor:
        return F.conv2d(x, kernels[f"across_scales_{index}"], padding=1) / 2**0.5

    below = smooth(torch.einsum("oc,bchw->bohw", kernels["across_channels_1"][:, :, 0, 0], coarse), 1)
    above = torch.einsum("oc,bchw->bohw", kernels["across_channels_0"][:, :, 0, 0], fine)
    enlarged = F.interpolate(below, size=(8, 8), mode="bilinear", align_corners=True)
    mixed = mixing([fine, coarse])
    torch.testing.assert_close(mixed[1], below)
    torch.testing.assert_close(mixed[0], smooth(above + enlarged, 0))


def test_only_the_heads_are_trained_and_kept() -> None:
    discriminator = build()
    discriminator.requires_grad_(True)
    assert {name.split(".")[0] for name, _ in discriminator.named_parameters()} == {"heads"}
    assert {name.split(".")[0] for name in discriminator.state_dict()} == {"heads", "mixing"}
    other = build()
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(discriminator.state_dict())
    torch.testing.assert_close(other(images(2)), discriminator(images(2)))


@pytest.mark.parametrize("channels", [1, 3])
def test_each_image_is_judged_alone_at_four_scales(channels: int) -> None:
    discriminator = build(channels=channels)
    x = images(3, channels)
    together = discriminator(x)
    assert together.shape == (3, 64)
    assert together.dtype == torch.float32
    torch.testing.assert_close(discriminator(x[1:2])[0], together[1], rtol=1e-4, atol=1e-4)
    # The coarsest scale has 2×2 places, each of which counts four times: all scales weigh the same.
    last = together[:, 48:].view(3, 4, 4)
    torch.testing.assert_close(last, last[:, ::2, ::2].repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_classes_move_the_logits_by_projection() -> None:
    discriminator = build(num_classes=3)
    x = images(1).expand(3, -1, -1, -1)
    logits = discriminator(x, torch.tensor([0, 1, 2]))
    assert not torch.allclose(logits[0], logits[1])
    torch.testing.assert_close(discriminator(x, torch.tensor([1, 1, 2]))[1], logits[1])
    with pytest.raises(ValueError, match="labels"):
        discriminator(x)


def test_class_logits_are_linear_in_the_normalised_means_of_the_maps() -> None:
    discriminator = build(num_classes=3, classifier=True)
    x, labels = images(2), torch.tensor([0, 2])
    maps, before = discriminator.features(x), discriminator(x, labels)
    torch.testing.assert_close(discriminator.judge(x, labels).classes, torch.zeros(2, 3))  # knows nothing yet
    torch.manual_seed(0)
    classifier = discriminator.classifier
    assert classifier is not None
    for parameter in classifier.parameters():
        nn.init.normal_(parameter)
    judgement = discriminator.judge(x, labels)
    logits = judgement.classes
    assert logits is not None
    assert all(map(torch.equal, judgement.features, maps))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = discriminator.classes(maps)
    torch.testing.assert_close(rounded, logits, rtol=1e-3, atol=1e-3)
    means = [m.double().flatten(2).mean(dim=2) for m in maps]
    normalised = torch.cat([(m - m.mean(1, keepdim=True)) / m.std(1, unbiased=False, keepdim=True) for m in means], 1)
    expected = normalised @ classifier.weight.double().T + classifier.bias.double()
    torch.testing.assert_close(logits.double(), expected, rtol=1e-3, atol=1e-3)
    assert discriminator(x, labels).equal(before)


def test_the_gradient_reaches_the_images_and_is_that_of_float64() -> None:
    discriminator = build()
    x = images(1).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        discriminator(x).mean().backward()
    assert x.grad is not None
    wide = discriminator.double()
    y = x.detach().double().requires_grad_()
    features = wide.features
    assert isinstance(features, LiteFeatures)
    features.forward = lambda images: features.maps(  # not rounded to float32
        F.interpolate(images, size=(64, 64), mode="bilinear", align_corners=False)
    )
    wide(y).mean().backward()
    assert y.grad is not None
    cosine = F.cosine_similarity(x.grad.flatten().double(), y.grad.flatten(), dim=0)
    assert cosine > 0.99


def test_trained_weights_have_a_largest_singular_value_of_one() -> None:
    discriminator = build()
    with torch.no_grad():
        for parameter in discriminator.parameters():
            parameter.mul_(3).add_(torch.randn_like(parameter) * 0.01)
    for _ in range(50):
        update_spectral_norms(discriminator)
    for layer in discriminator.heads[0].down:  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
        sigma = torch.linalg.matrix_norm(layer.effective_weight().flatten(1), 2)
        torch.testing.assert_close(sigma, torch.ones(()), rtol=1e-3, atol=1e-3)
