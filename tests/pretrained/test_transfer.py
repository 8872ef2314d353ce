"""What G and D take over from another training whose classes, grid or patches are others."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vitgan
from reference.draws import normal
from refusals import refused
from tiny import TINY_DISCRIMINATOR, TINY_GENERATOR, tiny_model
from vitgan.explore.zoom import zoom
from vitgan.files import write_json
from vitgan.files.tensors import write_tensors
from vitgan.frozen.features import FEATURES_VARIABLE
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.models.vit_generator import ViTGenerator
from vitgan.presets import replaced
from vitgan.pretrained.generators import save, write_networks
from vitgan.pretrained.names import NETWORKS, NETWORKS_CONFIG
from vitgan.pretrained.transfer import start_from

BASE = tiny_model()
LINEAR = replaced(TINY_GENERATOR, pixel_mapping="linear")


def trained(folder: Path, model: ModelConfig) -> tuple[str, Generator, Discriminator]:
    """A model folder that carries its networks; the averaged G is G."""
    generator, discriminator = build_generator(model.generator_spec(), seed=5), build_discriminator(model, seed=6)
    for part in (generator, discriminator):
        for parameter in part.parameters():
            parameter.data.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(7)))
    save(generator, folder)
    write_tensors(
        folder / NETWORKS, nn.ModuleDict({"generator": generator, "discriminator": discriminator}).state_dict()
    )
    write_json(folder / NETWORKS_CONFIG, model.model_dump(mode="json"))
    return str(folder), generator, discriminator


def started(name: str, model: ModelConfig) -> tuple[list[str], Generator, Discriminator]:
    """New networks after `start_from`, which must say the same of networks without weights."""
    spec = model.generator_spec()
    generator, discriminator, averaged = build_generator(spec), build_discriminator(model), build_generator(spec)
    notes = start_from(name, model, generator, discriminator, averaged)
    for key, tensor in generator.state_dict().items():
        assert tensor.equal(averaged.state_dict()[key])
    meta = build_generator(spec, device="meta"), build_discriminator(model, device="meta")
    assert start_from(name, model, *meta, build_generator(spec, device="meta")) == notes
    return notes, generator, discriminator


def equal_but_classes(old: nn.Module, new: nn.Module) -> bool:
    there, here = old.state_dict(), new.state_dict()
    return all(there[key].equal(here[key]) for key in there.keys() & here.keys() if "class" not in key)


def normalised(x: Tensor) -> Tensor:
    return x / (x.square().mean(dim=-1, keepdim=True) + 1e-8).sqrt()


@pytest.mark.parametrize(
    "discriminator",
    [
        TINY_DISCRIMINATOR,
        StyleGAN2DiscriminatorConfig(channel_base=64),
        ProjectedDiscriminatorConfig(input_size=32, width=4),
    ],
)
def test_other_classes_start_anew_and_the_rest_is_kept(tmp_path: Path, discriminator: object) -> None:
    base = replaced(BASE, discriminator=discriminator, conditional=True)
    name, old_g, old_d = trained(tmp_path / "old", replaced(base, num_classes=3, class_names=("a", "b", "c")))
    for classes, names, anew, noted in (
        (5, None, True, True),
        (3, ("a", "b", "d"), True, True),
        (3, ("a", "b", "c"), False, False),
        (3, None, False, True),  # they are taken by their numbers
    ):
        model = replaced(base, num_classes=classes, class_names=names)
        notes, generator, judge = started(name, model)
        assert len(notes) == noted
        assert equal_but_classes(old_g, generator)
        assert equal_but_classes(old_d, judge)
        kept = old_g if not anew else build_generator(model.generator_spec())
        key = "mapping_network.class_embedding.weight"
        assert generator.state_dict()[key].equal(kept.state_dict()[key])


@pytest.mark.parametrize("subset_first", [True, False])
def test_classes_without_images_on_one_side_do_not_make_the_others_new(tmp_path: Path, subset_first: bool) -> None:
    base = replaced(BASE, conditional=True, num_classes=3)
    subset = replaced(base, class_names=("a", "b", "2"), class_counts=(5, 5, 0))
    whole = replaced(base, class_names=("a", "b", "c"), class_counts=(5, 5, 5))
    first, second = (subset, whole) if subset_first else (whole, subset)
    name, old, _ = trained(tmp_path / "old", first)
    notes, new, _ = started(name, second)
    key = "mapping_network.class_embedding.weight"
    assert notes == []
    assert new.state_dict()[key].equal(old.state_dict()[key])
    others = replaced(second, class_names=("x", *(second.class_names or ())[1:]))
    assert len(started(name, others)[0]) == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_classifier_in_one_of_two_ds_leaves_the_rest_as_it_was(tmp_path: Path, there: bool) -> None:
    old, new = (replaced(TINY_DISCRIMINATOR, classifier=has) for has in (there, not there))
    base = replaced(BASE, conditional=True, num_classes=3)
    name, _, old_d = trained(tmp_path / "old", replaced(base, discriminator=old))
    notes, _, judge = started(name, replaced(base, discriminator=new))
    assert notes == []
    assert judge.state_dict().keys() ^ old_d.state_dict().keys() == {"classifier.weight", "classifier.bias"}
    assert all(
        judge.state_dict()[key].equal(value) for key, value in old_d.state_dict().items() if "classifier" not in key
    )


@pytest.mark.parametrize("equalized", [True, False])
@pytest.mark.parametrize("weight_norm", ["none", "isn"])
def test_a_d_that_is_to_see_fine_detail_too_is_the_same_at_first(
    tmp_path: Path, equalized: bool, weight_norm: str
) -> None:
    judge = replaced(TINY_DISCRIMINATOR, equalized_lr=equalized, weight_norm=weight_norm)
    base = replaced(BASE, discriminator=judge)
    name, _, old = trained(tmp_path / "old", base)
    model = replaced(base, discriminator=replaced(judge, fine_detail=2.0))
    notes, _, new = started(name, model)
    assert notes == []
    images = normal(4, 3, 8, 8, seed=0)
    logits, expected = (network.eval().double()(images) for network in (new, old))
    torch.testing.assert_close(logits, expected)
    weight = dict(new.named_parameters())["patch_embedding.linear.weight"]
    (gradient,) = torch.autograd.grad(logits.sum(), weight)
    assert gradient[:, gradient.shape[1] // 2 :].abs().max() > 0  # detail can be learned
    with refused("freeze_d", "fine_detail", parameter="training.freeze_d"):
        spec = model.generator_spec()
        generators = build_generator(spec), build_generator(spec)
        start_from(name, model, generators[0], build_discriminator(model), generators[1], freeze_d=1)


@pytest.mark.parametrize(
    "changes", [{"channels": 1}, {"discriminator": replaced(TINY_DISCRIMINATOR, patch_size=2, fine_detail=2.0)}]
)
def test_patches_of_another_shape_do_not_get_fine_detail(tmp_path: Path, changes: dict[str, object]) -> None:
    name, _, _ = trained(tmp_path / "old", replaced(BASE, generator=LINEAR))
    judge = replaced(TINY_DISCRIMINATOR, fine_detail=2.0)
    model = replaced(BASE, **({"generator": LINEAR, "discriminator": judge} | changes))
    generator = build_generator(BASE.generator_spec() if "channels" not in changes else model.generator_spec())
    if "channels" in changes:
        with refused("channel", parameter="model.channels"):
            start_from(name, model, generator, build_discriminator(model), generator)
    else:
        assert len(started(name, model)[0]) == 1


@pytest.mark.parametrize("equalized", [True, False])
def test_without_classes_g_is_that_of_the_mean_class(tmp_path: Path, equalized: bool) -> None:
    base = replaced(BASE, generator=replaced(TINY_GENERATOR, equalized_lr=equalized))
    name, old, old_d = trained(tmp_path / "old", replaced(base, num_classes=3, conditional=True))
    notes, generator, judge = started(name, base)
    assert len(notes) == 1
    assert isinstance(old, ViTGenerator)
    mapping, z = old.mapping_network, normal(4, 8, dtype=torch.float32)
    assert mapping.class_embedding is not None
    mean = normalised(mapping.class_embedding(torch.eye(3))).mean(dim=0)
    w = torch.cat([normalised(z), mean.expand(4, -1)], dim=1)
    for layer in mapping.layers:
        w = F.leaky_relu(layer(w), 0.2)
    torch.testing.assert_close(generator.mapping(z), w)
    assert equal_but_classes(old_d, judge)


@pytest.mark.parametrize("equalized", [True, False])
def test_new_classes_make_no_difference_at_first(tmp_path: Path, equalized: bool) -> None:
    base = replaced(BASE, generator=replaced(TINY_GENERATOR, equalized_lr=equalized))
    name, old, _ = trained(tmp_path / "old", base)
    notes, generator, _ = started(name, replaced(base, num_classes=3, conditional=True))
    assert len(notes) == 1
    z = normal(3, 8, dtype=torch.float32)
    torch.testing.assert_close(generator(z, torch.arange(3)), old(z))
    w = generator.mapping(z, torch.arange(3))
    w.square().sum().backward()
    gradient = generator.get_parameter("mapping_network.layers.0.weight").grad
    assert gradient is not None
    assert gradient[:, 8:].abs().max() > 0  # so that they are learned


def test_larger_patches_draw_the_same_image_at_more_pixels(tmp_path: Path) -> None:
    name, old, _ = trained(tmp_path / "old", BASE)
    model = replaced(BASE, resolution=16, generator=replaced(TINY_GENERATOR, patch_size=8))
    notes, generator, judge = started(name, model)
    assert len(notes) == 1
    assert isinstance(old, ViTGenerator)
    w = old.styles(old.mapping(normal(2, 8, dtype=torch.float32)))
    torch.testing.assert_close(generator.synthesis(w).clamp(-1, 1), zoom(old, w, 2))
    assert judge(torch.zeros(1, 3, 16, 16)).isfinite()  # D's patches are as large as before, so it is kept


def test_latent_tokens_of_a_finer_grid_lie_between_those_of_the_coarser(tmp_path: Path) -> None:
    base = replaced(BASE, generator=replaced(TINY_GENERATOR, latent_tokens=True, patch_size=2))
    name, old, _ = trained(tmp_path / "old", base)
    notes, generator, _ = started(name, replaced(base, resolution=16))
    assert len(notes) == 1
    z, maps = normal(2, 8, dtype=torch.float32), []
    for network, side in ((old, 4), (generator, 8)):
        assert isinstance(network, ViTGenerator)
        assert network.token_embedding is not None
        maps.append(network.token_embedding(z).view(2, side, side, 16).permute(0, 3, 1, 2))
    torch.testing.assert_close(maps[1], F.interpolate(maps[0], scale_factor=2, mode="bilinear"))


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"generator": replaced(LINEAR, num_heads=4)}, "model.generator.num_heads"),
        ({"generator": replaced(LINEAR, position_frequency=2.0)}, "model.generator.position_frequency"),
        ({"generator": replaced(LINEAR, patch_size=8), "resolution": 16}, "model.resolution"),
        ({"generator": {"kind": "stylegan2"}}, "model.generator.kind"),
        ({"channels": 1}, "model.channels"),
    ],
)
def test_a_g_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    base = replaced(BASE, generator=LINEAR)
    name, _, _ = trained(tmp_path / "old", base)
    with refused(parameter=field):
        started(name, replaced(base, **changes))


@pytest.mark.parametrize(
    "discriminator",
    [replaced(TINY_DISCRIMINATOR, dim=32), replaced(TINY_DISCRIMINATOR, patch_size=2), {"kind": "stylegan2"}],
)
def test_a_d_that_does_not_fit_starts_anew_in_one_line(tmp_path: Path, discriminator: object) -> None:
    name, old, _ = trained(tmp_path / "old", BASE)
    model = replaced(BASE, discriminator=discriminator)
    notes, generator, judge = started(name, model)
    assert len(notes) == 1
    assert equal_but_classes(old, generator)
    fresh = build_discriminator(model).state_dict()
    assert all(tensor.equal(fresh[key]) for key, tensor in judge.state_dict().items())


@pytest.mark.parametrize(
    ("here", "said"),
    [({"sha256": "1" * 64}, 1), ({"scale": (2.0,) * 3}, 1), ({"name": "else/where"}, 0), (None, 1)],
    ids=["weights", "scale", "place", "pixels"],
)
def test_latents_of_another_vae_are_said_to_be(tmp_path: Path, here: dict[str, object] | None, said: int) -> None:
    vae = VaeSpec(name="some/vae", sha256="0" * 64, factor=2, channels=3, shift=(0.0,) * 3, scale=(1.0,) * 3)
    name, old, _ = trained(tmp_path / "old", replaced(BASE, vae=vae))
    notes, generator, _ = started(name, replaced(BASE, vae=here and replaced(vae, **here)))
    assert len(notes) == said
    assert equal_but_classes(old, generator)


def saved_dino(folder: Path, seed: int) -> str:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.Dinov2Config(hidden_size=12, num_hidden_layers=2, num_attention_heads=2, image_size=28)
    transformers.Dinov2Model(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("field", "discriminator"),
    [
        ("features", lambda dino: ProjectedDiscriminatorConfig(features=dino, input_size=28, width=8)),
        (
            "alignment_features",
            lambda dino: replaced(TINY_DISCRIMINATOR, alignment_features=dino, alignment_size=28),
        ),
    ],
    ids=["projected", "aligned"],
)
def test_a_model_for_others_knows_its_frozen_network_by_a_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, discriminator: Callable[[str], object]
) -> None:
    model = replaced(BASE, discriminator=discriminator(saved_dino(tmp_path / "own" / "dino", seed=0)))
    here, _, old_d = trained(tmp_path / "here", model)
    elsewhere = tmp_path / "elsewhere"
    save(vitgan.load(here), elsewhere)
    write_networks(Path(here), elsewhere)
    assert str(tmp_path) not in (elsewhere / NETWORKS_CONFIG).read_text()

    (tmp_path / "own").rename(tmp_path / "moved")
    (tmp_path / "own").mkdir()
    with refused("dino"):  # a bare name would be any network's
        write_networks(Path(here), tmp_path / "own")
    assert not any((tmp_path / "own").iterdir())
    model = replaced(BASE, discriminator=discriminator(str(tmp_path / "moved" / "dino")))
    other = saved_dino(tmp_path / "other" / "dino", seed=1)
    for place in (None, other, str(tmp_path / "none")):
        if place is not None:
            monkeypatch.setenv(FEATURES_VARIABLE, place)
        with refused(FEATURES_VARIABLE, parameter=f"model.discriminator.{field}"):
            started(str(elsewhere), model)
    monkeypatch.setenv(FEATURES_VARIABLE, str(tmp_path / "moved" / "dino"))
    notes, _, judge = started(str(elsewhere), model)
    assert notes == []
    assert equal_but_classes(old_d, judge)
    notes, _, _ = started(str(elsewhere), replaced(BASE, discriminator=discriminator(other)))
    assert len(notes) == 1
