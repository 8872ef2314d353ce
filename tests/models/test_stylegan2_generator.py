"""The StyleGAN2 generator against its slow form, and what every generator promises."""

import copy

import pytest
import torch
from torch import nn

from reference import stylegan2 as reference
from refusals import refused
from vitgan.models.stylegan2_generator import StyleGAN2Generator, StyleGAN2GeneratorConfig, feature_maps

TINY = StyleGAN2GeneratorConfig(z_dim=6, w_dim=5, mapping_layers=3, channel_base=64, channel_max=8)


def generator(resolution: int = 16, num_classes: int = 0, channels: int = 3, noise: bool = True) -> StyleGAN2Generator:
    """A small generator whose biases and noise strengths are not the zeros they start from."""
    torch.manual_seed(0)
    model = StyleGAN2Generator(TINY.model_copy(update={"noise": noise}), resolution, channels, num_classes)
    for name, parameter in model.named_parameters():
        if name.endswith(("bias", "noise_strength")) and "affine" not in name:
            nn.init.normal_(parameter)
    return model


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def parameters(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("num_classes", [0, 3])
def test_mapping_equals_the_slow_form(num_classes: int) -> None:
    model = generator(num_classes=num_classes).double()
    z, labels = normal(4, 6).double(), torch.tensor([2, 0, 1, 2]) if num_classes else None
    expected = reference.mapping(parameters(model), "mapping_network", z, labels, TINY.mapping_lr_multiplier)
    torch.testing.assert_close(model.mapping(z, labels), expected)


@pytest.mark.parametrize(("resolution", "channels", "noise"), [(8, 3, True), (16, 1, True), (32, 3, False)])
def test_synthesis_equals_the_slow_form(resolution: int, channels: int, noise: bool) -> None:
    model = generator(resolution, channels=channels, noise=noise).double()
    p = parameters(model)
    w = normal(2, model.num_styles, 5).double()  # another style everywhere: each must reach its own layer
    fixed = {name.removesuffix(".fixed_noise"): value for name, value in p.items() if name.endswith("fixed_noise")}
    assert bool(fixed) == noise
    images = model.synthesis(w)
    assert images.shape == (2, channels, resolution, resolution)
    torch.testing.assert_close(images, reference.synthesis(p, w, fixed))


def test_drawn_noise_is_one_map_per_image_and_layer() -> None:
    model = generator(8)
    w = normal(2, model.num_styles, 5)
    drawn = {
        name: normal(2, 1, size, size, seed=size + index)
        for name, size, index in [("blocks.0.layers.0", 4, 0), ("blocks.1.layers.0", 8, 0), ("blocks.1.layers.1", 8, 1)]
    }
    images = model.synthesis(w, lambda place, *shape: normal(*shape, seed=shape[-1] + int(place[0])))
    torch.testing.assert_close(images, reference.synthesis(parameters(model), w, drawn), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(images, model.synthesis(w))


def test_parameter_gradients_equal_those_of_the_slow_form() -> None:
    model = generator(8).double()
    w, cotangent = normal(2, model.num_styles, 5).double(), normal(2, 3, 8, 8, seed=1).double()
    trainable = dict(model.named_parameters())
    trainable = {name: value for name, value in trainable.items() if not name.startswith("mapping_network")}
    fixed = {n.removesuffix(".fixed_noise"): b for n, b in model.named_buffers() if n.endswith("fixed_noise")}
    ours = torch.autograd.grad((model.synthesis(w) * cotangent).sum(), list(trainable.values()))
    slow = torch.autograd.grad((reference.synthesis(trainable, w, fixed) * cotangent).sum(), list(trainable.values()))
    for name, a, b in zip(trainable, ours, slow, strict=True):
        torch.testing.assert_close(a, b, msg=lambda text, name=name: f"{name}: {text}")


def test_path_length_penalty_has_the_slow_forms_gradients() -> None:
    """Double backward: the gradient of ||J^T y||² with respect to the parameters."""
    model = generator(8).double()
    cotangent = normal(2, 3, 8, 8, seed=1).double()
    w = normal(2, model.num_styles, 5).double().requires_grad_()
    weights = [model.get_parameter(f"blocks.{i}.layers.0.conv.weight") for i in range(2)]
    fixed = {n.removesuffix(".fixed_noise"): b for n, b in model.named_buffers() if n.endswith("fixed_noise")}

    def penalty_gradients(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (gradient,) = torch.autograd.grad((images * cotangent).sum(), w, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), weights)

    ours = penalty_gradients(model.synthesis(w))
    slow = penalty_gradients(reference.synthesis(dict(model.named_parameters()), w, fixed))
    for a, b in zip(ours, slow, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_every_parameter_gets_a_finite_gradient_from_the_start(num_classes: int) -> None:
    torch.manual_seed(0)
    model = StyleGAN2Generator(TINY, 16, 3, num_classes)
    labels = torch.arange(4) % num_classes if num_classes else None
    images = model(normal(4, 6), labels)
    (images * normal(*images.shape, seed=1)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_a_style_reaches_its_own_resolution_and_finer_ones_only() -> None:
    model = generator(16)
    w = normal(1, model.num_styles, 5)
    features = []
    model.blocks[1].register_forward_hook(lambda module, inputs, outputs: features.append(outputs[0]))
    images = model.synthesis(w)
    finer = w.clone()
    finer[:, 3:] += 1  # 4×4 and 8×8 convolve with styles 0 to 2; the 8×8 output and the 16×16 convolution share style 3
    assert not torch.allclose(model.synthesis(finer), images)
    torch.testing.assert_close(features[0], features[1], rtol=0, atol=0)


def test_same_styles_same_images_and_state_survives_copies() -> None:
    model = generator()
    w = normal(2, model.num_styles, 5)
    images = model.synthesis(w)
    torch.testing.assert_close(model.synthesis(w), images, rtol=0, atol=0)
    torch.testing.assert_close(copy.deepcopy(model).synthesis(w), images, rtol=0, atol=0)
    torch.manual_seed(1)
    other = StyleGAN2Generator(TINY, 16, 3)
    assert not torch.allclose(other.synthesis(w), images)
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other.synthesis(w), images, rtol=0, atol=0)


def test_truncation_pulls_towards_the_mean_image() -> None:
    model = generator()
    model.update_w_mean()
    z = normal(2, 6)
    mean_image = model.synthesis(model.styles(model.w_mean.expand(2, -1)))
    torch.testing.assert_close(model(z, truncation=0.0), mean_image)
    assert not torch.allclose(model(z, truncation=0.5), model(z))


def test_images_are_float32_and_close_under_autocast() -> None:
    model = generator(32)
    w = model.styles(model.mapping(normal(4, 6)))
    exact = model.synthesis(w)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.mapping(normal(4, 6)).dtype == torch.float32
        images = model.synthesis(w)
    assert images.dtype == torch.float32
    assert (images - exact).square().mean().sqrt() < 0.03 * exact.std()


def test_feature_maps_of_the_sizes_in_use() -> None:
    assert feature_maps("generator", 32, 16384, 512) == {4: 512, 8: 512, 16: 512, 32: 512}
    assert feature_maps("generator", 32, 4096, 512) == {4: 512, 8: 512, 16: 256, 32: 128}
    assert feature_maps("generator", 1024, 32768, 512)[1024] == 32
    assert StyleGAN2Generator(TINY, 16, 3).num_styles == 6


def test_runs_on_shapes_alone() -> None:
    with torch.device("meta"):
        model = StyleGAN2Generator(StyleGAN2GeneratorConfig(), 64, 3, num_classes=10)
        assert model(torch.empty(2, 512), torch.zeros(2, dtype=torch.long)).shape == (2, 3, 64, 64)


@pytest.mark.parametrize("resolution", [4, 0, -8, 24, 48])
def test_other_resolutions_are_refused_in_one_line(resolution: int) -> None:
    with refused(resolution, parameter="model.resolution"):
        StyleGAN2Generator(TINY, resolution, 3)


def test_too_few_feature_maps_are_named() -> None:
    with refused(64, 128, parameter="model.generator.channel_base"):
        StyleGAN2Generator(TINY, 128, 3)
