"""D's tokens aligned with a frozen network, against its slow form."""

from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import vitgan.models.vit_discriminator
from reference import vitgan as reference
from reference.draws import normal, perturb
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.frozen.features import FrozenFeatures, LiteFeatures, load_frozen
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.scaled_discriminator import ScaledDiscriminator
from vitgan.models.vit_discriminator import ALIGNMENT_FIELDS, ViTDiscriminator
from vitgan.presets import aligned, cifar10_tiny, preset, replaced, with_projected_discriminator
from vitgan.training.augment import AugmentConfig, augment
from vitgan.training.losses import alignment
from vitgan.training.objective import Objective, ObjectiveConfig
from vitgan.training.randomness import StepRandomness


class ToyFeatures(FrozenFeatures):
    """Powers of the images at 8×8, 4×4 and 2×2 places, in their own precision."""

    channels = (3, 3, 3)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [torch.nn.functional.adaptive_avg_pool2d(images**power, 16 // 2**power) for power in (1, 2, 3)]


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> ToyFeatures:
    """What D is aligned with, whatever its name."""
    toy = ToyFeatures(16)
    monkeypatch.setattr(vitgan.models.vit_discriminator, "load_frozen", lambda *_: toy)
    return toy


def model_of(tiny_model: ModelConfig, generator: dict[str, Any] | None = None, **changes: Any) -> ModelConfig:
    """At 16×16: 4×4 tokens."""
    discriminator = replaced(tiny_model.discriminator, **{"alignment_features": "toy", "depth": 3} | changes)
    generator = replaced(tiny_model.generator, **generator or {})  # pyright: ignore[reportAssignmentType]
    return replaced(tiny_model, resolution=16, discriminator=discriminator, generator=generator)


@pytest.mark.parametrize("block", [None, 1, 3])
@pytest.mark.parametrize("variant", [{}, {"attention": "dot", "weight_norm": "none", "normalization": "rms"}], ids=str)
def test_alignment_equals_its_slow_form(tiny_model, toy, variant: dict, block: int | None) -> None:
    """Of three blocks, after the second if nothing is said; in float64."""
    discriminator = build_discriminator(model_of(tiny_model, alignment_block=block, **variant)).double()
    initial = {name: value.clone() for name, value in discriminator.state_dict().items()}
    perturb(discriminator)
    update_spectral_norms(discriminator, steps=1000)
    p, images = discriminator.state_dict(), normal(2, 3, 16, 16)
    tokens = reference.discriminator(p, initial, images, 2, 4, 2, 1.0, after=block or 2)[:, 1:]
    expected = reference.alignment(p, tokens, toy(images))
    torch.testing.assert_close(alignment(*discriminator.aligned(images)), expected, rtol=1e-6, atol=1e-6)


def test_it_is_a_term_of_ds_loss_on_real_images_as_d_sees_them(tiny_model, toy) -> None:
    model = model_of(tiny_model)
    generator, discriminator = build_generator(model.generator_spec()), build_discriminator(model)
    real, randomness, augmentation = normal(4, 3, 16, 16).float(), StepRandomness(0, 0), AugmentConfig(probability=1)
    losses, gradients = [], []
    for weight in (0.0, 3.0):
        objective = Objective(ObjectiveConfig(alignment=weight, r1_gamma=1.0), augmentation)
        loss, parts = objective.discriminator_loss(
            generator, discriminator, objective.batch(real, None, randomness, 0, 0)
        )
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, list(discriminator.parameters()), allow_unused=True))
    seen = augment(real, randomness.augmentation("discriminator real", augmentation, 4, 16), augmentation)
    expected = alignment(*discriminator.aligned(seen))
    torch.testing.assert_close(parts["loss/alignment"], expected.detach())
    torch.testing.assert_close(losses[1] - losses[0], 3 * expected, rtol=1e-4, atol=1e-4)
    moved = set()
    for (name, _), without, given in zip(discriminator.named_parameters(), *gradients, strict=True):
        if without is None or not torch.allclose(without, given, rtol=1e-3, atol=1e-6):
            moved.add(".".join(name.split(".")[: 2 if name.startswith("blocks") else 1]))
    assert moved == {"alignment", "patch_embedding", "position_embedding", "class_token", "blocks.0", "blocks.1"}
    _, parts = objective.generator_loss(generator, discriminator, objective.batch(real, None, randomness, 0, 0))
    assert "loss/alignment" not in parts


@pytest.mark.parametrize("kind", ["summed", "scaled"])
def test_the_last_of_levels_is_looked_at(tiny_model, toy, kind: str) -> None:
    discriminator = build_discriminator(model_of(tiny_model, {"num_levels": 2, "levels": kind}))
    levels = normal(2, 2, 3, 16, 16).float()
    tokens, frozen = discriminator.aligned(levels)
    assert tokens.shape == frozen.shape == (2, 16, 9)
    network = discriminator.network if isinstance(discriminator, ScaledDiscriminator) else discriminator
    assert isinstance(network, ViTDiscriminator)
    assert network.alignment is not None
    assert torch.equal(frozen, network.alignment.target(levels[:, 1]))


def test_only_the_projection_is_trained_and_kept() -> None:
    discriminator = build_discriminator(aligned(cifar10_tiny()).model)
    plain = build_discriminator(cifar10_tiny().model)
    added = {"alignment.hidden.weight", "alignment.hidden.bias", "alignment.out.weight", "alignment.out.bias"}
    assert discriminator.state_dict().keys() - plain.state_dict().keys() == added
    assert {n for n, _ in discriminator.named_parameters()} - {n for n, _ in plain.named_parameters()} == added
    images = normal(2, 3, 32, 32).float().clamp(-1, 1)
    _, frozen = discriminator.aligned(images)
    assert frozen.square().mean().item() == pytest.approx(1, abs=0.6)
    assert frozen.requires_grad is False


def test_a_frozen_network_stays_as_it_is_for_evaluation() -> None:
    frozen = load_frozen("lite2", 32, ALIGNMENT_FIELDS)
    assert isinstance(frozen, LiteFeatures)
    assert not any(part.training for part in frozen.train().modules())
    assert not list(frozen.parameters())
    assert not frozen.state_dict()


ALIGNMENT = {"objective.alignment": 1.0}
LITE = {"model.discriminator.alignment_features": "lite2"}


@pytest.mark.parametrize(
    ("name", "changes", "parameter"),
    [
        ("cifar10-tiny", ALIGNMENT, "model.discriminator.alignment_features"),
        ("cifar10-tiny", LITE, "objective.alignment"),
        ("imagenet256-gat-s", ALIGNMENT | LITE, "model.discriminator.alignment_features"),  # latents
    ],
)
def test_half_an_alignment_is_refused(name: str, changes: dict[str, object], parameter: str) -> None:
    with pytest.raises(UserError) as caught:
        preset(name, **changes)
    assert caught.value.parameter == parameter


def test_latents_of_three_channels_are_no_images_to_align_with() -> None:
    config = preset("cifar10-tiny", **ALIGNMENT | LITE | {"training.horizontal_flip": False})
    scale = (1.0, 1.0, 1.0)
    vae = VaeSpec(name="a/b", sha256="0" * 64, factor=8, channels=3, shift=scale, scale=scale)
    with pytest.raises(UserError) as caught:
        RunConfig.model_validate(dict(config) | {"model": config.model.model_copy(update={"vae": vae})})
    assert caught.value.parameter == "model.discriminator.alignment_features"


@pytest.mark.parametrize(
    ("changes", "parameter"),
    [
        ({"alignment_features": "lite1"}, ALIGNMENT_FIELDS.name),
        ({"alignment_features": "lite2", "alignment_size": 40}, ALIGNMENT_FIELDS.size),
        ({"alignment_features": "lite2", "alignment_block": 4}, "model.discriminator.alignment_block"),
    ],
)
def test_what_cannot_be_aligned_is_refused(changes: dict[str, object], parameter: str) -> None:
    base = cifar10_tiny().model
    with pytest.raises(UserError) as caught:
        build_discriminator(replaced(base, discriminator=replaced(base.discriminator, **changes)))
    assert caught.value.parameter == parameter


@pytest.fixture
def dino(tmp_path) -> Any:
    """A small DINOv2 of random weights, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.Dinov2Config(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    network = transformers.Dinov2Model(config).eval()
    network.save_pretrained(tmp_path / "dino")
    return network


def test_a_dinov2_gives_its_patch_tokens(dino, tmp_path) -> None:
    frozen = load_frozen(str(tmp_path / "dino"), 28, ALIGNMENT_FIELDS)
    images = normal(2, 3, 16, 16).float().clamp(-1, 1)
    large = torch.nn.functional.interpolate((images + 1) / 2, size=(28, 28), mode="bilinear")
    mean, deviation = (torch.tensor(x).view(3, 1, 1) for x in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        tokens = dino((large - mean) / deviation).last_hidden_state  # (2, 1 + 4, 12): of patches of 14 pixels
    (found,) = frozen(images)
    assert found.shape == (2, 12, 2, 2)
    torch.testing.assert_close(found[:, :, 1, 0], tokens[:, 3], rtol=1e-4, atol=1e-4)
    assert not list(frozen.parameters())
    assert not frozen.state_dict()
    with pytest.raises(UserError) as caught:
        load_frozen(str(tmp_path / "dino"), 32, ALIGNMENT_FIELDS)
    assert caught.value.parameter == ALIGNMENT_FIELDS.size
    weights = {name: tensor for name, tensor in dino.state_dict().items() if not name.endswith("cls_token")}
    save_file(weights, tmp_path / "dino" / "model.safetensors")
    for _ in range(2):  # one tensor is missing; then all is damaged
        with pytest.raises(UserError) as caught:
            load_frozen(str(tmp_path / "dino"), 28, ALIGNMENT_FIELDS)
        assert caught.value.parameter == ALIGNMENT_FIELDS.name
        (tmp_path / "dino" / "model.safetensors").write_bytes(b"x")


def test_d_is_aligned_with_a_dinov2(dino, tmp_path) -> None:
    base = cifar10_tiny().model
    changes = {"alignment_features": str(tmp_path / "dino"), "alignment_size": 28}
    model = replaced(base, discriminator=replaced(base.discriminator, **changes))
    tokens, frozen = build_discriminator(model).aligned(normal(2, 3, 32, 32).float())
    assert tokens.shape == frozen.shape == (2, 64, 12)
    assert build_discriminator(model, device="meta").aligned(torch.empty(2, 3, 32, 32, device="meta"))[0].is_meta


def test_heads_stand_on_a_dinov2(dino, tmp_path) -> None:
    """One map of 2×2 patches, by class; the images get a gradient, the frozen network is no parameter."""
    changes = {"features": str(tmp_path / "dino"), "input_size": 28, "width": 8}
    base = with_projected_discriminator(cifar10_tiny()).model
    model = replaced(base, discriminator=replaced(base.discriminator, **changes), num_classes=3)
    discriminator, images = build_discriminator(model), normal(2, 3, 32, 32).float().requires_grad_()
    logits = discriminator(images, torch.tensor([0, 2]))
    assert logits.shape == (2, 16)
    (gradient,) = torch.autograd.grad(logits.sum(), images)
    assert gradient.abs().amax(dim=(1, 2, 3)).min() > 0
    assert {name.partition(".")[0] for name, _ in discriminator.named_parameters()} == {"heads", "classifier"}
    for field, value in (("features", "nowhere"), ("input_size", 30)):
        other = replaced(model, discriminator=replaced(model.discriminator, **{field: value}))
        with pytest.raises(UserError) as caught:
            build_discriminator(other)
        assert caught.value.parameter == f"model.discriminator.{field}"
