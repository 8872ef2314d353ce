"""Costs against sums written out from the sizes, and against what autograd really keeps."""

import pytest
import torch
from torch import Tensor

from reference.draws import normal
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.costs import generator_costs, model_costs
from vitgan.models.vit_discriminator import ViTDiscriminatorConfig
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.presets import preset, replaced


def flops_by_hand(model: ModelConfig) -> tuple[int, int]:
    """Twice the multiply-adds of all products for one more image, in the order in which they happen."""
    g, d = model.generator, model.discriminator
    assert isinstance(g, ViTGeneratorConfig)
    assert isinstance(d, ViTDiscriminatorConfig)
    pixels, tokens = g.patch_size**2, (model.resolution // g.patch_size) ** 2
    hidden = round(g.dim * g.mlp_ratio)
    norm = 2 * g.w_dim * g.dim  # gamma and beta
    block = 2 * norm + tokens * (4 * g.dim**2 + 2 * g.dim * hidden) + 2 * tokens**2 * g.dim
    implicit = tokens * (2 * g.dim * g.inr_dim + g.inr_dim**2 + pixels * (g.inr_dim**2 + g.inr_dim * model.channels))
    mapping = g.z_dim * g.w_dim + (g.mapping_layers - 1) * g.w_dim**2
    generator = mapping + g.depth * block + norm + implicit

    patches = (model.resolution // d.patch_size) ** 2
    side = d.patch_size + 2 * d.overlap_pixels
    hidden, sequence = round(d.dim * d.mlp_ratio), patches + 1
    block = sequence * (3 * d.dim**2 + 2 * d.dim * hidden) + 2 * sequence**2 * d.dim
    # Of the last block, all tokens need their key and value, the class token alone the rest.
    last = sequence * 2 * d.dim**2 + d.dim**2 + 2 * d.dim * hidden + 2 * sequence * d.dim
    discriminator = patches * model.channels * side**2 * d.dim + (d.depth - 1) * block + last + d.dim
    return 2 * generator, 2 * discriminator


def test_flops_equal_the_sum_over_all_products(tiny_model) -> None:
    generator, discriminator = model_costs(tiny_model)
    assert (generator.flops_per_image, discriminator.flops_per_image) == flops_by_hand(tiny_model)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_parameters_equal_those_of_the_built_models(tiny_model, num_classes: int) -> None:
    model = tiny_model.model_copy(update={"num_classes": num_classes})
    generator, discriminator = model_costs(model)
    built = build_generator(model.generator_spec()), build_discriminator(model)
    for costs, player in zip((generator, discriminator), built, strict=True):
        assert costs.parameters == sum(p.numel() for p in player.parameters())


def test_gats_largest_generator_is_counted_as_published() -> None:
    """602 million parameters and 119 GFLOPs, a multiply-add being one there. Its sizes are DiT-XL's, which fit both."""
    costs = generator_costs(preset("imagenet256-gat-xl").model.generator_spec())
    assert costs.parameters == pytest.approx(602e6, rel=0.03)
    assert costs.flops_per_image / 2 == pytest.approx(119e9, rel=0.03)


def test_cats_middle_generator_has_as_many_parameters_as_published() -> None:
    assert generator_costs(preset("imagenet256-cat-m").model.generator_spec()).parameters == pytest.approx(
        261e6, rel=0.03
    )


def test_levels_cost_their_heads(tiny_model) -> None:
    """Of the lower levels each a norm and a decoder; D sees all in its channels, or each at its own resolution."""
    model = replaced(tiny_model, resolution=16)
    plain = model_costs(model)
    for levels in ("summed", "scaled"):
        leveled = replaced(model, generator=replaced(model.generator, num_levels=2, levels=levels))
        generator, discriminator = model_costs(leveled)
        built = build_generator(leveled.generator_spec())
        heads = [p for name, p in built.named_parameters() if name.startswith("level_")]
        assert generator.parameters - plain[0].parameters == sum(p.numel() for p in heads) > 0
        assert plain[0].flops_per_image < generator.flops_per_image < 2 * plain[0].flops_per_image
        of_patches = 2 * 16 * 3 * 8**2 * 8  # tokens, channels, pixels of a patch with its overlap, width
        small = model_costs(replaced(model, resolution=8))[1].flops_per_image
        more = discriminator.flops_per_image - plain[1].flops_per_image
        assert more == (of_patches if levels == "summed" else small)


def test_activation_bytes_are_what_autograd_keeps(tiny_model) -> None:
    generator, discriminator = build_generator(tiny_model.generator_spec()), build_discriminator(tiny_model)

    def generate(count: int) -> Tensor:
        return generator(normal(count, 6, dtype=torch.float32))

    def judge(count: int) -> Tensor:
        return discriminator(normal(count, 3, 12, 12, dtype=torch.float32))

    for costs, run in zip(model_costs(tiny_model), (generate, judge), strict=True):
        assert costs.activation_bytes_per_image == (kept_bytes(run, 5) - kept_bytes(run, 2)) / 3


def kept_bytes(run, count: int) -> int:
    """Memory of all tensors that a real forward pass saves, each address once."""
    kept: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run(count)
    return sum({t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}.values())
