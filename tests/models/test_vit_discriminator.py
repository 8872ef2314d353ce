"""The ViT discriminator against its slow form and, with every switch off, against torch's own transformer."""

import pytest
import torch
from torch import Tensor, nn

from reference import vitgan as reference
from reference.draws import normal, perturb
from refusals import refused
from vitgan.layers.attention import SelfAttention
from vitgan.layers.positions import grid_positions
from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.build import ModelConfig, build_discriminator
from vitgan.models.vit_discriminator import ViTDiscriminator

VANILLA = {"attention": "dot", "weight_norm": "none", "overlap": 0}


def discriminator(model: ModelConfig, num_classes: int = 0, **switches) -> ViTDiscriminator:
    config = model.discriminator.model_copy(update=switches)
    built = build_discriminator(model.model_copy(update={"discriminator": config, "num_classes": num_classes}))
    assert isinstance(built, ViTDiscriminator)
    return built


def assert_equals_slow_form(model: ViTDiscriminator, labels: Tensor | None = None) -> None:
    """After training: the weights are not the initial ones, whose singular values they must keep."""
    model.double()
    initial = {name: value.clone() for name, value in model.state_dict().items()}
    perturb(model, size=0.5)
    update_spectral_norms(model, steps=1000)
    images = normal(2, 3, 12, 12)
    logits = model(images, labels)
    assert logits.shape == (2,)
    overlap, positions, rotary = model.config.overlap_pixels, model.config.positions, model.config.rotary
    expected = reference.discriminator(
        model.state_dict(), initial, images, 2, 4, overlap, 1.0, labels, positions, rotary
    )
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_classes", [0, 3])
def test_logits_equal_the_slow_form(tiny_model, num_classes: int) -> None:
    labels = torch.tensor([2, 1]) if num_classes else None
    assert_equals_slow_form(discriminator(tiny_model, num_classes), labels=labels)


@pytest.mark.parametrize(
    "variant",
    [
        {"attention": "dot"},
        {"weight_norm": "none"},
        {"overlap": 4},
        {"normalization": "rms"},
        {"mlp": "swiglu"},
        {"qk_norm": True},
        {"qk_norm": True, "attention": "dot"},
        {"positions": "sincos"},
        {"positions": "none"},
        {"rotary": True},
        {"key_bias": True, "qk_norm": True},
        {"attention_init": 0.5, "class_token_init": 0.02},
        {"rotary": True, "attention": "dot", "qk_norm": True},
        {"layer_scale": 0.1},
        {"attention_kernel": "fused"},
        VANILLA,
    ],
    ids=str,
)
def test_every_variant_equals_its_slow_form(tiny_model, variant: dict) -> None:
    assert_equals_slow_form(discriminator(tiny_model, **variant))


def test_first_values_are_as_large_as_stated(tiny_model) -> None:
    model = discriminator(tiny_model, dim=400, attention_init=0.7, class_token_init=0.02)
    assert model.class_token.std().item() == pytest.approx(0.02, rel=0.1)
    for projection in model.blocks[0].get_submodule("attention.projections").children():
        assert projection.get_parameter("weight").std().item() == pytest.approx(0.7, rel=0.02)


def test_attention_maps_are_those_of_the_forward_pass(tiny_model) -> None:
    model = discriminator(tiny_model)
    images = normal(2, 3, 12, 12, dtype=torch.float32)
    maps = model.attention_maps(images)
    assert [m.shape for m in maps] == [(2, 2, 10, 10)] * 2
    inputs: list[Tensor] = []
    for block in model.blocks:
        attention = block.get_submodule("attention")
        attention.register_forward_pre_hook(lambda module, arguments: inputs.append(arguments[0]))
    model(images)
    for block, x, weights in zip(model.blocks, inputs.copy(), maps, strict=True):
        attention = block.get_submodule("attention")
        assert isinstance(attention, SelfAttention)
        q, _, v = attention.project(x)
        expected = torch.stack(
            [torch.stack([reference.l2_attention_weights(head) for head in sample]) for sample in q.double()]
        )
        torch.testing.assert_close(weights.double(), expected, rtol=1e-4, atol=1e-5)
        y = (weights @ v).transpose(1, 2).flatten(2)
        torch.testing.assert_close(attention(x)[0], attention.out(y))


def test_vanilla_equals_torchs_transformer(tiny_model) -> None:
    """A pre-norm nn.TransformerEncoder with the same weights, for the ViT's equations 1 to 4."""
    model = perturb(discriminator(tiny_model, equalized_lr=False, **VANILLA).double())
    layer = nn.TransformerEncoderLayer(
        8, 2, dim_feedforward=16, dropout=0, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
    )
    encoder = nn.TransformerEncoder(layer, 2, nn.LayerNorm(8, dtype=torch.float64), enable_nested_tensor=False)
    with torch.no_grad():
        for ours, theirs in zip(model.blocks, encoder.layers, strict=True):
            copy_block(ours.state_dict(), theirs)
        assert encoder.norm is not None
        encoder.norm.load_state_dict(model.norm.state_dict())
        images = normal(3, 3, 12, 12)
        patches = reference.cut_patches(images, 4, 0)
        p = model.state_dict()
        tokens = patches @ p["patch_embedding.linear.weight"].t() + p["patch_embedding.linear.bias"]
        tokens = tokens + reference.fourier(p, "position_embedding", reference.cell_centres(3), 1.0)
        tokens = torch.cat([p["class_token"].expand(3, 1, -1), tokens], dim=1)
        expected = encoder(tokens)[:, 0] @ p["head.weight"][0] + p["head.bias"]
        torch.testing.assert_close(model(images), expected, rtol=1e-6, atol=1e-6)


def copy_block(p: dict[str, Tensor], theirs: nn.Module) -> None:
    """Our block's weights into torch's; a bias of the keys has no effect and is 0."""
    heads = [f"attention.projections.{name}" for name in "qkv"]
    weight = torch.cat([p[f"{name}.weight"] for name in heads])
    bias = torch.cat([p.get(f"{name}.bias", weight.new_zeros(8)) for name in heads])
    names = {"self_attn.out_proj": "attention.out", "linear1": "mlp.mlp_in", "linear2": "mlp.mlp_out"}
    names |= {"norm1": "norm1", "norm2": "norm2"}
    state = {f"{a}.{kind}": p[f"{b}.{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
    theirs.load_state_dict(state | {"self_attn.in_proj_weight": weight, "self_attn.in_proj_bias": bias})


SWITCHES = [
    {"attention": "dot"},
    {"weight_norm": "none"},
    {"weight_norm": "sn"},
    {"overlap": 0},
    {"overlap": 4},
    {"equalized_lr": False},
    {"convolutional_projection": True},
    {"normalization": "rms"},
    {"mlp": "swiglu"},
    {"qk_norm": True},
    {"layer_scale": 0.1},
    VANILLA,
]


@pytest.mark.parametrize("switches", SWITCHES, ids=str)
def test_every_switch_changes_what_it_says_and_trains(tiny_model, switches: dict) -> None:
    model = discriminator(tiny_model, **switches)
    images = normal(2, 3, 12, 12, dtype=torch.float32)
    logits = model(images)
    assert logits.shape == (2,)
    (logits * torch.tensor([1.0, -2.0])).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name

    state = model.state_dict()
    assert ("blocks.0.attention.projections.qk.weight" in state) == (switches.get("attention") != "dot")
    targets = [value.item() for name, value in state.items() if name.endswith("target_sigma")]
    match switches.get("weight_norm", "isn"):
        case "none":
            assert targets == []
        case "sn":
            assert targets
            assert set(targets) == {1.0}
        case _:
            assert len(set(targets)) > 1
    side = 4 + 2 * switches.get("overlap", 2)
    assert state["patch_embedding.linear.weight"].shape == (8, 3 * side**2)
    convolutional = switches.get("convolutional_projection", False)
    assert state["blocks.0.attention.projections.v.weight"].dim() == (4 if convolutional else 2)
    unit_variance = switches.get("equalized_lr", True)
    assert (state["blocks.0.mlp.mlp_in.weight"].std() > 0.7).item() == unit_variance
    if switches in ({"equalized_lr": False}, {"weight_norm": "none"}):  # the same function, until it is trained
        torch.testing.assert_close(logits, discriminator(tiny_model)(images))
    else:
        assert not torch.allclose(logits, discriminator(tiny_model)(images), atol=1e-4)


def test_a_logit_depends_on_its_own_image_alone(tiny_model) -> None:
    model = discriminator(tiny_model)
    images = normal(4, 3, 12, 12, dtype=torch.float32)
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone[0], alone[1])


def test_every_pixel_and_its_place_counts(tiny_model) -> None:
    model = discriminator(tiny_model)
    images = normal(1, 3, 12, 12, dtype=torch.float32).requires_grad_()
    (gradient,) = torch.autograd.grad(model(images).sum(), images)
    assert gradient.abs().min() > 0
    moved = images.detach().roll(4, dims=3)  # whole patches: only E_pos tells the difference
    assert not torch.allclose(model(images), model(moved), atol=1e-4)


def test_double_backward_for_r1(tiny_model) -> None:
    model = discriminator(tiny_model).double()
    images = normal(1, 3, 12, 12)

    def logit(patch: Tensor) -> Tensor:
        return model(torch.cat([patch, images[:, :, 2:]], dim=2))

    patch = images[:, :, :2].clone().requires_grad_()
    assert torch.autograd.gradcheck(logit, patch)
    assert torch.autograd.gradgradcheck(logit, patch)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("normalization", ["layer", "rms"])
def test_what_makes_the_logit_is_float32_under_autocast(tiny_model, normalization: str, num_classes: int) -> None:
    """Norm, head and projection of what the last block gave, by hand in float64."""
    model = perturb(discriminator(tiny_model, num_classes, normalization=normalization), size=1.0)
    update_spectral_norms(model, steps=50)
    images, labels = normal(64, 3, 12, 12, dtype=torch.float32), torch.arange(64) % 3
    given: list[Tensor] = []
    model.blocks[-1].register_forward_hook(lambda module, arguments, output: given.append(output[0][:, 0].double()))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images, labels if num_classes else None)
    assert logits.dtype == torch.float32
    p = {name: value.double() for name, value in model.state_dict().items()}

    def product(name: str, y: Tensor) -> Tensor:
        vectors = [p[f"{name}.weight_norm.{side}_vector"] for side in ("left", "right")]
        weight = p[f"{name}.weight"]
        return y @ (weight * p[f"{name}.weight_norm.target_sigma"] / (vectors[0] @ weight @ vectors[1])).t()

    y = reference.plain_norm(p, "norm", given[0])
    expected = product("head", y)[:, 0] + p["head.bias"]
    if num_classes:
        expected = expected + product("class_embedding", y)[torch.arange(64), labels]
    torch.testing.assert_close(logits.double(), expected, rtol=1e-5, atol=1e-5)


def test_large_logits_of_many_images_differ_in_bf16(tiny_model) -> None:
    """Around 5 bf16 has steps of 1/32: a head in bf16 would give a handful of values."""
    model = discriminator(tiny_model)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model.head.bias.fill_(5.0)  # pyright: ignore[reportCallIssue, reportArgumentType, reportOptionalMemberAccess]
        assert model(normal(256, 3, 12, 12, dtype=torch.float32)).unique().numel() > 240


def test_bf16_logits_are_float32_and_near(tiny_model) -> None:
    model = discriminator(tiny_model)
    images = normal(8, 3, 12, 12, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(images)
    assert logits.dtype == torch.float32
    assert (logits - model(images)).abs().max() < 0.1


def test_conditional_discriminator_needs_labels_and_uses_them(tiny_model) -> None:
    model = discriminator(tiny_model, num_classes=3)
    images = normal(1, 3, 12, 12, dtype=torch.float32).expand(3, -1, -1, -1)
    logits = model(images, torch.tensor([0, 1, 2]))
    assert logits.unique().numel() == 3
    with pytest.raises(ValueError, match="labels"):
        model(images)


@pytest.mark.parametrize(
    ("change", "other"),
    [
        ({"patch_size": 5}, "resolution 12"),
        ({"num_heads": 3}, "discriminator.dim 8"),
        ({"mlp_ratio": 0.06}, "discriminator.dim 8"),
        ({"mlp_ratio": 0.09, "mlp": "swiglu"}, "discriminator.dim 8"),
        ({"overlap": 5}, "patch size 4"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(tiny_model, change: dict, other: str) -> None:
    field, value = next(iter(change.items()))
    with refused(value, other, parameter=f"model.discriminator.{field}"):
        discriminator(tiny_model, **change)


def test_fine_detail_comes_in_as_further_channels(tiny_model) -> None:
    """With it, patches are those of [x, s (x - blurred x)]; the blur is written out here."""
    model = discriminator(tiny_model, fine_detail=3.0).double()
    images = normal(2, 3, 12, 12)
    blurred = torch.zeros_like(images)
    for y in range(12):
        for x in range(12):
            for dy, weight_y in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                for dx, weight_x in ((-1, 0.25), (0, 0.5), (1, 0.25)):
                    near = images[:, :, min(max(y + dy, 0), 11), min(max(x + dx, 0), 11)]
                    blurred[:, :, y, x] += weight_y * weight_x * near
    stacked = torch.cat([images, 3 * (images - blurred)], dim=1)
    assert model.position_embedding is not None
    tokens = model.patch_embedding(stacked) + model.position_embedding(grid_positions(3).double())
    torch.testing.assert_close(model.tokens(images)[:, 1:], tokens)


def test_a_texture_that_a_patch_hides_moves_a_discriminator_that_is_given_detail(tiny_model) -> None:
    """Nothing but detail differs: the logit's answer grows with the factor."""
    images = normal(4, 3, 12, 12).float()
    tile = 0.05 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(6, 6)
    answers = []
    for factor in (0.0, 8.0):
        model = discriminator(tiny_model, fine_detail=factor)
        answers.append((model.tokens(images + tile) - model.tokens(images)).norm().item())
    assert answers[1] > 3 * answers[0]


def test_patches_that_cutout_made_zero_explode_no_gradient_without_positions(tiny_model) -> None:
    model = discriminator(tiny_model, **VANILLA, positions="none", normalization="rms")
    model(torch.zeros(2, 3, 12, 12)).mean().backward()
    norm = sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None) ** 0.5
    assert norm < 100  # thousands where their tokens are 0
