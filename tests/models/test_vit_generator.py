"""The ViT generator against its slow form, and what every generator promises of sampling."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from reference import vitgan as reference
from reference.draws import normal, perturb
from refusals import refused
from vitgan.layers.norm import SelfModulatedLayerNorm
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.draws import draw_latents
from vitgan.models.generator import Generator
from vitgan.models.vit_generator import GeneratorBlock, ViTGenerator, ViTGeneratorConfig


@pytest.fixture
def generator(tiny_model) -> ViTGenerator:
    model = build_generator(tiny_model.generator_spec())
    assert isinstance(model, ViTGenerator)
    return perturb(model)


def conditional(tiny_model) -> Generator:
    return perturb(build_generator(tiny_model.generator_spec().model_copy(update={"num_classes": 3})))


def test_synthesis_equals_the_slow_form(generator: ViTGenerator) -> None:
    """With another style at every place: each must reach its own block."""
    w = normal(2, generator.num_styles, 5)
    generator.double()
    images = generator.synthesis(w)
    assert images.shape == (2, 3, 12, 12)
    expected = reference.generator(
        generator.state_dict(), w, heads=2, grid_size=3, patch_size=4, frequency=1.0, pixel_frequency=1.0
    )
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("pixel_mapping", ["inr", "linear", "conv", "interpolated"])
def test_bounded_images_are_the_tanh_of_unbounded_ones(pixel_mapping: str, tiny_model) -> None:
    """Of each level, for levels that have heads of their own."""
    spec = tiny_model.generator_spec()
    changes = {"pixel_mapping": pixel_mapping, "num_levels": 2, "levels": "scaled", "depth": 2}
    free, bounded = (
        build_generator(
            spec.model_copy(update={"generator": spec.generator.model_copy(update={**changes, "bounded": bound})})
        ).double()
        for bound in (False, True)
    )
    bounded.load_state_dict(perturb(free).state_dict())
    assert isinstance(free, ViTGenerator)
    assert isinstance(bounded, ViTGenerator)
    w = 10 * normal(2, free.num_styles, free.w_dim)
    ends = [10 * end for end in free.hidden(w)[0]]
    for image, expected in zip(bounded.heads(ends, w), free.heads(ends, w), strict=True):
        assert expected.abs().max() > 1
        torch.testing.assert_close(image, expected.tanh())


def test_parameter_gradients_equal_those_of_the_slow_form(generator: ViTGenerator) -> None:
    w, cotangent = normal(1, generator.num_styles, 5), normal(1, 3, 12, 12, seed=1)
    generator.double()
    names, parameters = zip(
        *((n, p) for n, p in generator.named_parameters() if not n.startswith("mapping_network")), strict=True
    )
    expected = reference.generator(
        dict(zip(names, parameters, strict=True)), w, 2, 3, 4, frequency=1.0, pixel_frequency=1.0
    )
    slow = torch.autograd.grad((expected * cotangent).sum(), parameters)
    ours = torch.autograd.grad((generator.synthesis(w) * cotangent).sum(), parameters)
    for name, a, b in zip(names, ours, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}")


VARIANTS = [
    {"latent_mapping": "add"},
    {"latent_mapping": "prepend"},
    {"latent_mapping": "add", "normalization": "rms"},
    {"pixel_mapping": "linear"},
    {"pixel_frequency": 2.5},  # unlike that of the token positions
    {"pixel_mapping": "conv"},
    {"pixel_mapping": "interpolated"},
    {"normalization": "rms"},
    {"mlp": "swiglu"},
    {"qk_norm": True},
    {"positions": "sincos"},
    {"rotary": True},
    {"positions": "sincos", "rotary": True, "qk_norm": True, "latent_mapping": "prepend"},
    {"gated": True},
    {"gated": True, "gate_bias": 0.0, "modulation_init": 0.1},
    {"modulation_silu": True, "gated": True},
    {"modulation_silu": True, "pixel_mapping": "conv"},
    {"key_bias": True, "qk_norm": True, "attention_init": 0.5},
    {"attention_kernel": "fused"},
    {"latent_mapping": "prepend", "pixel_mapping": "linear"},  # the vanilla ViT generator
]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_variant_equals_its_slow_form_and_trains(tiny_model, variant: dict) -> None:
    spec = tiny_model.generator_spec()
    spec = spec.model_copy(update={"generator": spec.generator.model_copy(update=variant)})
    generator = perturb(build_generator(spec)).double()
    w = normal(2, generator.num_styles, 5)
    latent_mapping = variant.get("latent_mapping", "sln")
    assert generator.num_styles == (3 if latent_mapping == "sln" else 1)
    images = generator.synthesis(w)
    options = {name: variant.get(name, False) for name in ("rotary", "modulation_silu")}
    expected = reference.generator(
        generator.state_dict(), w, 2, 3, 4, 1.0, variant.get("pixel_frequency", 1.0), latent_mapping, **options
    )
    torch.testing.assert_close(images, expected, rtol=1e-5, atol=1e-5)

    (generator(normal(2, 6)) * normal(2, 3, 12, 12, seed=1)).sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 1e-8, name


@pytest.mark.parametrize("equalized", [True, False])
def test_a_gated_generator_starts_almost_as_a_plain_one(equalized: bool) -> None:
    """At the presets' proportions: gates are positive and near 1, and every block's output is near that without gates."""
    config = ViTGeneratorConfig(dim=96, num_heads=3, z_dim=96, w_dim=96, inr_dim=96, gated=True, equalized_lr=equalized)
    generator = build_generator(GeneratorSpec(generator=config))
    w = generator.mapping(normal(64, 96, dtype=torch.float32))
    h = normal(64, 64, 96, seed=1, dtype=torch.float32)
    for block in generator.get_submodule("blocks").children():
        assert isinstance(block, GeneratorBlock)
        assert block.gates is not None
        gates = block.gates(w)
        assert gates.min() > 0
        assert 0.01 < (gates - 1).square().mean().sqrt() < 0.25
        gated, block.gates = block(h, w)[0], None
        plain = block(h, w)[0]
        assert (gated - plain).square().mean().sqrt() < 0.2 * plain.std()


def test_a_generator_that_starts_as_gats() -> None:
    """Gates near 0, scales near 1, query, key and value 0.7 times as large as is usual: by their standard deviations."""
    config = ViTGeneratorConfig(
        dim=96, num_heads=3, z_dim=96, w_dim=96, gated=True, gate_bias=0.0, modulation_init=0.1, attention_init=0.7
    )
    generator = build_generator(GeneratorSpec(generator=config))
    w = generator.mapping(normal(64, 96, dtype=torch.float32))
    for block in generator.get_submodule("blocks").children():
        assert isinstance(block, GeneratorBlock)
        assert block.gates is not None
        assert 0.01 < block.gates(w).std() < 0.25
        assert block.gates(w).mean().abs() < 0.05
        assert isinstance(block.norm1, SelfModulatedLayerNorm)
        scale = block.norm1.gamma(w)
        assert scale.mean().item() == pytest.approx(1, abs=0.05)
        assert 0.01 < scale.std() < 0.25
        for projection in block.attention.projections.values():
            assert projection.get_parameter("weight").std().item() == pytest.approx(
                0.7, rel=0.05
            )  # times 1 / sqrt(96) where it is used


def test_only_the_implicit_decoder_is_continuous(generator: ViTGenerator, tiny_model) -> None:
    w = normal(1, 3, 5, dtype=torch.float32)
    decoder = generator.continuous_decoder
    assert decoder is not None
    zoomed = decoder(generator.tokens(w)[0], 3)
    assert zoomed.shape == (1, 3, 36, 36)
    torch.testing.assert_close(zoomed[..., 1::3, 1::3], generator.synthesis(w), rtol=1e-4, atol=1e-5)
    for kind in ("linear", "conv", "interpolated"):
        config = tiny_model.generator.model_copy(update={"pixel_mapping": kind})
        other = build_generator(GeneratorSpec(resolution=12, generator=config))
        assert isinstance(other, ViTGenerator)
        assert other.continuous_decoder is None


def test_forward_gives_one_style_to_all_places(generator: ViTGenerator) -> None:
    z = normal(2, 6, dtype=torch.float32)
    w = generator.mapping(z)
    assert generator.num_styles == 3  # two blocks, and the end
    torch.testing.assert_close(generator(z), generator.synthesis(torch.stack([w, w, w], dim=1)))


def test_each_style_has_a_place_of_its_own(generator: ViTGenerator) -> None:
    w = normal(1, 3, 5, dtype=torch.float32)
    images = generator.synthesis(w)
    for place in range(3):
        changed = w.clone()
        changed[:, place] += 1
        assert (generator.synthesis(changed) - images).abs().max() > 1e-3


def test_same_seed_same_images(tiny_model) -> None:
    first, second = (build_generator(tiny_model.generator_spec(), seed=3) for _ in range(2))
    assert torch.equal(first.sample(3, seed=5), second.sample(3, seed=5))
    assert not torch.allclose(first.sample(3, seed=5), first.sample(3, seed=6))
    other = build_generator(tiny_model.generator_spec(), seed=4)
    assert not torch.allclose(first.sample(3, seed=5), other.sample(3, seed=5))


@pytest.mark.parametrize("z_dim", [6, 16, 40])
def test_a_latent_does_not_depend_on_how_many_are_drawn(z_dim: int) -> None:
    latents = draw_latents(40, z_dim, seed=2)
    for count in (1, 7, 39):
        assert torch.equal(draw_latents(count, z_dim, seed=2), latents[:count])
    assert draw_latents(0, z_dim, seed=2).shape == (0, z_dim)
    many = draw_latents(2000, z_dim, seed=3)
    assert abs(many.mean().item()) < 0.05
    assert abs(many.std().item() - 1) < 0.05


def test_a_sample_does_not_depend_on_count_or_batch_size(generator: ViTGenerator) -> None:
    images = generator.sample(9, seed=1, batch_size=9)
    assert images.shape == (9, 3, 12, 12)
    assert images.abs().max() <= 1
    for count, batch_size in ((9, 1), (9, 4), (5, 2)):
        again = generator.sample(count, seed=1, batch_size=batch_size)
        torch.testing.assert_close(again, images[:count], rtol=1e-5, atol=1e-5)
    sizes = [len(batch) for batch in generator.batches(9, batch_size=4)]
    assert sizes == [4, 4, 1]


def test_samples_can_be_differentiated_through_later(generator: ViTGenerator) -> None:
    """They are ordinary tensors, not those of inference mode."""
    images = generator.sample(2).requires_grad_()
    images.square().sum().backward()
    torch.testing.assert_close(images.grad, 2 * images.detach())


def test_truncation_pulls_towards_the_mean_style(generator: ViTGenerator) -> None:
    generator.update_w_mean()
    z = draw_latents(10_000, 6, seed=0)
    torch.testing.assert_close(generator.w_mean, generator.mapping(z).mean(dim=0), rtol=1e-4, atol=1e-5)

    images = generator.sample(4, truncation=0)
    torch.testing.assert_close(images, images[:1].expand(4, -1, -1, -1), rtol=1e-4, atol=1e-5)
    first, second = generator.sample(2)
    assert not torch.allclose(first, second)
    mean_image = generator.synthesis(generator.w_mean.expand(1, 3, -1)).clamp(-1, 1)
    torch.testing.assert_close(images[:1], mean_image, rtol=1e-5, atol=1e-5)

    w = generator.mapping(z[:2])
    half = generator.w_mean + 0.5 * (w - generator.w_mean)
    torch.testing.assert_close(generator.styles(w, 0.5)[:, 1], half)
    torch.testing.assert_close(generator(z[:2], truncation=1.0), generator(z[:2]))


def test_truncation_works_under_autocast(generator: ViTGenerator) -> None:
    generator.update_w_mean()
    exact = generator.sample(3, truncation=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        images = generator.sample(3, truncation=0.5)
    assert images.dtype == torch.float32
    assert (images - exact).abs().max() < 0.2


def test_state_dict_round_trip(generator: ViTGenerator, tiny_model, tmp_path) -> None:
    generator.update_w_mean()
    save_file(generator.state_dict(), tmp_path / "model.safetensors")
    other = build_generator(tiny_model.generator_spec(), seed=9)
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other.sample(3, truncation=0.7), generator.sample(3, truncation=0.7))


def test_class_conditional_generator(tiny_model) -> None:
    generator = conditional(tiny_model)
    z = normal(1, 6, dtype=torch.float32).expand(3, -1)
    images = generator(z, torch.tensor([0, 1, 2]))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(images[i], images[j], atol=1e-3)
    every_class_in_turn = generator.sample(4, seed=3)
    labels = torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(generator.sample(4, seed=3, labels=labels), every_class_in_turn)
    generator.update_w_mean()
    z = draw_latents(10_000, 6, seed=0)
    expected = generator.mapping(z, torch.arange(10_000) % 3).mean(dim=0)
    torch.testing.assert_close(generator.w_mean, expected, rtol=1e-4, atol=1e-5)


def test_images_of_an_untrained_generator_are_neither_flat_nor_wild() -> None:
    """At the paper's proportions: pixel values of order 1, so that neither player starts saturated."""
    config = ViTGeneratorConfig(dim=96, depth=4, num_heads=6, z_dim=96, w_dim=96, inr_dim=96)
    images = build_generator(GeneratorSpec(generator=config))(normal(16, 96, dtype=torch.float32))
    assert 0.1 < images.std().item() < 1
    assert images.std(dim=0).mean().item() > 0.05  # the latent shows


def test_double_backward_reaches_the_latent(generator: ViTGenerator) -> None:
    """As path-length regularisation and some inversions need."""
    generator.double()

    def images(w: Tensor) -> Tensor:
        return generator.synthesis(w)[:, :, ::5, ::5]

    assert torch.autograd.gradgradcheck(images, normal(1, 3, 5).requires_grad_())


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        ({"patch_size": 5}, [5, "1, 2, 3, 4, 6, 12"]),
        ({"num_heads": 3}, [3, "generator.dim 8"]),
        ({"mlp_ratio": 0.06}, [0.06, "generator.dim 8"]),
        ({"mlp_ratio": 0.09, "mlp": "swiglu"}, [0.09, "generator.dim 8"]),
        ({"gated": True, "latent_mapping": "add"}, ["generator.latent_mapping sln"]),
        ({"rotary": True, "num_heads": 4}, ["generator.dim / generator.num_heads", 2]),
        ({"dim": 6, "positions": "sincos"}, [6, "generator.positions sincos"]),
        ({"patch_size": 6, "pixel_mapping": "conv"}, [6, "generator.pixel_mapping conv"]),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny_model, change: dict, facts: list) -> None:
    config = tiny_model.generator.model_copy(update=change)
    with refused(*facts, parameter=f"model.generator.{next(iter(change))}"):
        build_generator(GeneratorSpec(resolution=12, generator=config))


def test_latent_tokens_are_the_latent_in_each_token() -> None:
    spec = GeneratorSpec(
        resolution=16,
        generator=ViTGeneratorConfig(
            dim=16, depth=1, num_heads=2, z_dim=6, w_dim=8, mapping_layers=1, latent_tokens=True
        ),
    )
    generator = build_generator(spec)
    assert isinstance(generator, ViTGenerator)
    z = torch.randn(3, 6, generator=torch.Generator().manual_seed(0))
    w = generator.mapping(z)
    assert w.shape == (3, generator.w_dim) == (3, 14)
    normalised = z / z.square().mean(dim=1, keepdim=True).sqrt()
    torch.testing.assert_close(w[:, 8:], normalised, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        h = generator.embed(w)
        without = generator.embed(torch.cat([w[:, :8], torch.zeros(3, 6)], dim=1))
    layer = generator.token_embedding
    assert layer is not None
    expected = torch.einsum("oi,bi->bo", layer.effective_weight(), w[:, 8:]).view(3, 16, 16)
    torch.testing.assert_close(h - without, expected, rtol=1e-4, atol=1e-5)
