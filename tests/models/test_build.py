"""Config -> module: seeds, shapes without weights, files, and what configurations refuse."""

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file
from torch import nn

from reference.draws import normal, perturb
from refusals import refused
from tiny import few_blocks
from vitgan.files.tensors import load_weights
from vitgan.models.build import GeneratorSpec, ModelConfig, build_discriminator, build_generator
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.models.stylegan2_discriminator import StyleGAN2Discriminator, StyleGAN2DiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2Generator, StyleGAN2GeneratorConfig
from vitgan.models.vit_discriminator import ViTDiscriminator
from vitgan.models.vit_generator import ViTGenerator
from vitgan.presets import PRESET_NAMES, preset, replaced


def equal(a: nn.Module, b: nn.Module) -> bool:
    p, q = a.state_dict(), b.state_dict()
    return p.keys() == q.keys() and all(torch.equal(p[name], q[name]) for name in p)


def both(model: ModelConfig, seed: int) -> tuple[Generator, Discriminator]:
    return build_generator(model.generator_spec(), seed), build_discriminator(model, seed)


FIRST_OF = {
    "cifar10": ("class_token", "patch_embedding.", "position_embedding.", "blocks.0."),
    "cifar10-gat": ("class_token", "patch_embedding.", "blocks.0."),
    "cifar10-stylegan2d": ("from_rgb.", "blocks.0."),
}


@pytest.mark.parametrize("name", FIRST_OF)
def test_the_first_blocks_of_d_come_with_what_is_before_them(name: str) -> None:
    discriminator = build_discriminator(preset(name).model, device="meta")
    first = {id(parameter) for parameter in discriminator.first_parameters(1)}
    for key, parameter in discriminator.named_parameters():
        assert (id(parameter) in first) == key.startswith(FIRST_OF[name]), key
    assert not discriminator.first_parameters(0)
    depth = len(discriminator.stages()) - 1
    for network, blocks in ((discriminator, depth + 1), (build_discriminator(PROJECTED, device="meta"), 1)):
        with refused(blocks, parameter="training.freeze_d"):
            network.first_parameters(blocks)


PROJECTED = preset("cifar10-tiny-projected").model
STYLEGAN2 = ModelConfig(
    resolution=16,
    channels=1,
    generator=StyleGAN2GeneratorConfig(z_dim=7, w_dim=4, mapping_layers=2, channel_base=64, channel_max=8),
    discriminator=StyleGAN2DiscriminatorConfig(channel_base=64, channel_max=8),
)


@pytest.fixture(params=["vit", "stylegan2"])
def model(request, tiny_model) -> ModelConfig:
    return tiny_model if request.param == "vit" else STYLEGAN2


def test_kinds_and_sizes(tiny_model) -> None:
    generator, discriminator = both(tiny_model, 0)
    assert isinstance(generator, ViTGenerator)
    assert isinstance(discriminator, ViTDiscriminator)
    for player in (generator, discriminator):
        assert (player.resolution, player.channels, player.num_classes) == (12, 3, 0)
    assert (generator.z_dim, generator.w_dim) == (6, 5)

    generator, discriminator = both(STYLEGAN2, 0)
    assert isinstance(generator, StyleGAN2Generator)
    assert isinstance(discriminator, StyleGAN2Discriminator)
    for player in (generator, discriminator):
        assert (player.resolution, player.channels, player.num_classes) == (16, 1, 0)
    assert (generator.z_dim, generator.w_dim) == (7, 4)


def test_players_may_be_of_different_kinds(tiny_model) -> None:
    """As in the paper's row of a ViT generator with StyleGAN2's discriminator."""
    mixed = STYLEGAN2.model_copy(update={"generator": tiny_model.generator, "num_classes": 3})
    generator, discriminator = both(mixed, 0)
    labels = torch.tensor([2, 0])
    assert discriminator(generator.sample(2, labels=labels), labels).shape == (2,)


def test_weights_are_a_function_of_the_seed_alone(model) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first = both(model, 3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(12)
    for a, b, other in zip(first, both(model, 3), both(model, 4), strict=True):
        assert equal(a, b)
        assert not equal(a, other)


def test_built_on_meta_and_filled_from_a_file(model, tmp_path) -> None:
    spec = model.generator_spec()
    generator, discriminator = both(model, 0)
    perturb(generator)
    perturb(discriminator)
    save_file(generator.state_dict(), tmp_path / "generator.safetensors")
    save_file(discriminator.state_dict(), tmp_path / "discriminator.safetensors")
    empty_generator, empty_discriminator = (
        build_generator(spec, device="meta"),
        build_discriminator(model, 0, "meta"),
    )
    for player in (empty_generator, empty_discriminator):
        assert all(tensor.is_meta for tensor in player.state_dict().values())
    load_weights(empty_generator, tmp_path / "generator.safetensors")
    load_weights(empty_discriminator, tmp_path / "discriminator.safetensors")
    assert equal(generator, empty_generator)
    images = generator.sample(2)  # the file's tensors lie elsewhere in memory: sums may be taken in another order
    torch.testing.assert_close(empty_generator.sample(2), images)
    torch.testing.assert_close(empty_discriminator(images), discriminator(images))


def test_weights_of_another_configuration_are_refused(tiny_model, tmp_path) -> None:
    path = tmp_path / "weights.safetensors"
    save_file(build_generator(tiny_model.generator_spec()).state_dict(), path)
    wider = tiny_model.generator.model_copy(update={"inr_dim": 9})
    deeper = tiny_model.generator.model_copy(update={"depth": 3})
    for config, odd in ((wider, 9), (deeper, "blocks.2")):
        spec = tiny_model.generator_spec().model_copy(update={"generator": config})
        with refused(path, odd):
            load_weights(build_generator(spec), path)


def test_a_spec_is_the_generators_part_and_survives_json(model) -> None:
    spec = model.generator_spec()
    assert type(spec) is GeneratorSpec
    assert spec.generator == model.generator
    assert not hasattr(spec, "discriminator")
    for config in (spec, model):
        assert type(config).model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"resolution": 0}, "resolution"),
        ({"channels": 0}, "channels"),
        ({"channels": 129}, "channels"),
        ({"num_classes": -1}, "num_classes"),
        ({"generator": {"kind": "vit", "dim": 0}}, "generator.vit.dim"),
        ({"discriminator": {"kind": "stylegan2", "dim": 8}}, "discriminator.stylegan2.dim"),
        ({"hidden": 3}, "hidden"),
    ],
)
def test_impossible_values_and_unknown_names_are_refused(values: dict, place: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ModelConfig.model_validate(values)
    assert [".".join(map(str, error["loc"])) for error in caught.value.errors()] == [place]


def small(model: ModelConfig) -> ModelConfig:
    """The same networks, each as wide and deep as fits here."""
    sizes = {"dim": 32, "depth": 4, "num_heads": 2}
    generator = replaced(model.generator, z_dim=16, w_dim=16, **sizes)
    return replaced(model, num_classes=5, generator=generator, discriminator=replaced(model.discriminator, **sizes))


def preset_players() -> dict[str, ModelConfig]:
    """The players of all presets, each once, with few blocks: many presets differ in other things."""
    players: dict[str, ModelConfig] = {}
    seen: list[object] = []
    for name in PRESET_NAMES:
        model = small(preset(name).model) if name.startswith("imagenet256") else few_blocks(preset(name).model)
        for player in ("generator", "discriminator"):
            levels = (model.num_levels, model.scaled_levels)
            sizes = (model.resolution, model.channels, model.num_classes, levels, getattr(model, player))
            if sizes not in seen:
                seen.append(sizes)
                players[f"{name} {player}"] = model
    return players


@pytest.mark.parametrize(("name", "model"), preset_players().items(), ids=preset_players())
def test_every_parameter_of_every_preset_learns(name: str, model: ModelConfig) -> None:
    """Finite gradients that are not zero, from random cotangents: a part left out of the graph would have none."""
    labels = torch.arange(2) % model.num_classes if model.num_classes else None
    if name.endswith("generator"):
        player = build_generator(model.generator_spec())
        result = player.levels(player.styles(player.mapping(normal(2, player.z_dim, dtype=torch.float32), labels)))
    else:
        player = build_discriminator(model)
        images = normal(2, model.channels, *2 * [model.resolution], dtype=torch.float32)
        result = player(build_generator(model.generator_spec(), device="meta").levels_of(images), labels)
    (result * normal(*result.shape, seed=1, dtype=torch.float32)).sum().backward()
    for parameter_name, parameter in player.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert torch.isfinite(parameter.grad).all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


def test_grey_images(tiny_model) -> None:
    grey = tiny_model.model_copy(update={"channels": 1})
    generator, discriminator = both(grey, 0)
    images = generator.sample(2)
    assert images.shape == (2, 1, 12, 12)
    assert discriminator(images).shape == (2,)


def test_built_on_meta_and_initialised_by_torchs_own_means(model) -> None:
    """`to_empty`, then every module's `reset_parameters`: the weights of a new network, in their spread."""
    for network, expected in zip(
        (build_generator(model.generator_spec(), device="meta"), build_discriminator(model, device="meta")),
        both(model, 0),
        strict=True,
    ):
        network.to_empty(device="cpu")
        for tensor in network.state_dict().values():
            tensor.fill_(torch.nan)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if reset is not None:
                reset()
        for name, tensor in network.state_dict().items():
            like = expected.state_dict()[name].float()
            assert torch.isfinite(tensor).all(), name
            if (like.numel() > 1 and like.unique().numel() == 1) or "kernel" in name:
                assert torch.equal(tensor, like), name  # constants
            elif like.numel() > 50:
                assert tensor.std().item() == pytest.approx(like.std().item(), rel=0.5), name


def test_threads_that_build_networks_draw_the_weights_of_their_seeds(tiny_model: ModelConfig) -> None:
    """torch has one random state for all of them, which is as it was afterwards."""
    spec, seeds = tiny_model.generator_spec(), range(8)
    alone, before = [build_generator(spec, seed) for seed in seeds], torch.random.get_rng_state()
    with ThreadPoolExecutor(len(seeds)) as pool:
        together = [*pool.map(partial(build_generator, spec), [*seeds] * 4)]
    assert all(map(equal, together, alone * 4))
    assert torch.equal(torch.random.get_rng_state(), before)
