"""Starting from another training: what its G and D bring to networks that may have other classes or another grid."""

import re

import torch.nn.functional as F
from torch import Tensor

from vitgan.errors import UserError
from vitgan.files.tensors import fill, load_weights, misfit
from vitgan.frozen.features import known_by_digest
from vitgan.layers.patches import OverlappingPatchEmbedding
from vitgan.models.build import FEATURE_FIELDS, ModelConfig, build_discriminator
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.models.mapping import MappingNetwork
from vitgan.models.vit_discriminator import ViTDiscriminator
from vitgan.models.vit_generator import ViTGenerator
from vitgan.pretrained.generators import build_unfilled, load_networks, locate_networks, networks_config
from vitgan.schema import Config

CLASSES = re.compile(r"class_embedding|classifier")
"""What the names of tensors that belong to classes hold, in G and D."""
FREE = {
    *("attention_kernel", "minibatch_stddev_group", "patch_size"),
    *("gate_bias", "modulation_init", "attention_init", "class_token_init", "layer_scale", "classifier"),
}
"""Fields that leave a trained weight's meaning as it is: kernels, first values, and a size that shapes tell."""


def start_from(
    name: str,
    model: ModelConfig,
    generator: Generator,
    discriminator: Discriminator,
    generator_ema: Generator,
    freeze_d: int = 0,
) -> list[str]:
    """Gives G, D and the averaged G the weights of another training, nothing else of it.

    Classes may be others: they start anew. The grid of tokens may be another where every weight is one for all places;
    latent tokens, which are not, are interpolated. A D of another kind or other sizes starts anew; one that is to see fine
    detail too does not.

    Args:
        name: A run (its newest whole checkpoint), a checkpoint, or a model folder that carries its networks.
        model: What the networks were built from.
        generator: G of the run that starts; on "meta", only whether it fits is found out.
        discriminator: Its D.
        generator_ema: Its averaged G.
        freeze_d: Blocks of D that will not be trained, so that it must not start anew.

    Returns:
        What is not as it was there, a line each.

    Raises:
        UserError: If there is no such model, it has the averaged generator alone, or its G does not fit.
    """
    weights = locate_networks(name)
    theirs = networks_config(weights)
    if (other := _difference(theirs.generator, model.generator)) is not None:
        raise UserError(
            f"the weights of {name} do not fit: generator.{other}; set it as there, or start from another model",
            f"model.generator.{other.split()[0]}",
        )
    averaged, trained = (build_unfilled(theirs.generator_spec(), weights) for _ in range(2))
    judge = build_discriminator(theirs, device="meta")
    load_weights(averaged, weights)
    load_networks(weights, trained, judge)
    same_classes = _same_classes(theirs, model)
    for old, new in ((trained, generator), (averaged, generator_ema)):
        _start_generator(name, old, new, same_classes)
    notes = [] if same_classes and _named(theirs) == _named(model) else [_about_classes(theirs, model, same_classes)]
    if _coding(theirs) != _coding(model):
        notes.append(f"{name} made {_made(theirs)}, and here are {_made(model)}: G must learn what they mean anew")
    if theirs.resolution != model.resolution:
        notes.append(f"{name} made images of {theirs.resolution}×{theirs.resolution}")
    if (why := _start_discriminator(theirs, judge, model, discriminator, same_classes, freeze_d)) is not None:
        if freeze_d:
            raise UserError(
                f"freeze_d keeps blocks of the D of {name}, but that does not fit ({why}): set it as there, or train all "
                "of D",
                "training.freeze_d",
            )
        notes.append(f"D starts anew: {why}")
    return notes


def _difference(theirs: Config, mine: Config) -> str | None:
    """The first field of a network that gives weights another meaning, in words: "num_heads is 4 there and 2 here"."""
    there, here = theirs.model_dump(), mine.model_dump()
    for field in ("kind", *(field for field in here if field not in FREE)):
        if field in FEATURE_FIELDS and there.get(field) and here[field]:
            there[field], here[field] = known_by_digest(there[field]), known_by_digest(here[field])
        if there.get(field) != here[field]:
            return f"{field} is {there.get(field)} there and {here[field]} here"
    return None


def _named(model: ModelConfig) -> bool:
    return model.class_names is not None


def _same_classes(theirs: ModelConfig, mine: ModelConfig) -> bool:
    """Whether there are as many, and those with images on both sides have the same names, where both have names."""
    if theirs.num_classes != mine.num_classes:
        return False
    count = theirs.num_classes
    names = zip(theirs.class_names or (), mine.class_names or (), strict=False)
    shares = zip(theirs.class_counts or (1,) * count, mine.class_counts or (1,) * count, strict=True)
    return all(one == other for (one, other), both in zip(names, shares, strict=False) if all(both))


def _about_classes(theirs: ModelConfig, mine: ModelConfig, same: bool) -> str:
    if same:
        return f"{mine.num_classes} classes are those there by their numbers: one of the two has no names for them"
    if not mine.num_classes:
        return f"there are no classes here: G starts as the mean of the {theirs.num_classes} there"
    there = f"{theirs.num_classes} others" if theirs.num_classes else "none"
    return f"{mine.num_classes} classes start anew: there were {there}"


def _coding(model: ModelConfig) -> object:
    """What gives the channels their meaning: a VAE and its scale, whatever folder it is in; None for pixels."""
    return model.vae and (model.vae.sha256, model.vae.shift, model.vae.scale)


def _made(model: ModelConfig) -> str:
    return "pixels" if model.vae is None else f"latents of {model.vae.name} ({model.vae.sha256[:8]}…)"


def _start_generator(name: str, old: Generator, new: Generator, same_classes: bool) -> None:
    """Fills a generator of the same configuration but for resolution, patch size, channels and classes.

    Raises:
        UserError: If a tensor does not fit.
    """
    tensors, fresh = old.state_dict(), new.state_dict()
    mine, theirs = (getattr(network, "mapping_network", None) for network in (new, old))
    if not same_classes and isinstance(mine, MappingNetwork) and isinstance(theirs, MappingNetwork):
        tensors = {key: tensor for key, tensor in tensors.items() if not CLASSES.search(key)}
        tensors |= {key: tensor for key, tensor in fresh.items() if CLASSES.search(key)}
        if bool(new.num_classes) != bool(old.num_classes):
            first = dict(zip(("weight", "bias"), mine.first_layer_of(theirs), strict=True))
            tensors |= {f"mapping_network.layers.0.{key}": tensor for key, tensor in first.items()}
    if isinstance(old, ViTGenerator) and isinstance(new, ViTGenerator) and old.token_embedding is not None:
        key = "token_embedding.weight"
        tensors[key] = _resized_tokens(tensors[key], old.grid_size, new.grid_size)
    if (odd := misfit(tensors, fresh)) is not None:
        raise UserError(
            f"the weights of {name} are of a G for {_size(old)}, and do not fit {_size(new)} ({odd}): set resolution, "
            "channels and patch_size as there, or start from another model",
            "model.channels" if old.channels != new.channels else "model.resolution",
        )
    fill(new, tensors)


def _resized_tokens(weight: Tensor, old: int, new: int) -> Tensor:
    """Maps of z for each token of a grid, (old² · dim, z_dim), at the places of another grid's, bilinear."""
    if old == new:
        return weight
    grid = weight.unflatten(0, (old, old, -1)).movedim((0, 1), (2, 3))  # (dim, z_dim, old, old)
    resized = F.interpolate(grid, size=(new, new), mode="bilinear", align_corners=False)
    return resized.movedim((2, 3), (0, 1)).flatten(0, 2)


def _size(network: Generator) -> str:
    patch = f" in patches of {network.patch_size}" if isinstance(network, ViTGenerator) else ""
    return f"{network.channels} channel(s) of {network.resolution}×{network.resolution}{patch}"


def _start_discriminator(
    theirs: ModelConfig, old: Discriminator, mine: ModelConfig, new: Discriminator, same_classes: bool, freeze_d: int
) -> str | None:
    """Fills a discriminator, but for classes that are others; why not, where it does not fit."""
    there, tensors, fresh = theirs.discriminator, old.state_dict(), new.state_dict()
    if (
        (isinstance(old, ViTDiscriminator) and not old.config.fine_detail)
        and (isinstance(new, ViTDiscriminator) and new.config.fine_detail)
        and not freeze_d
    ):
        there = there.model_copy(update={"fine_detail": new.config.fine_detail})
        tensors |= _with_detail(old.patch_embedding, new.patch_embedding)
    if (other := _difference(there, mine.discriminator)) is not None:
        return f"discriminator.{other}"

    def starts_anew(key: str) -> bool:
        """What tells other classes, and a classifier that is in one of them alone."""
        return bool(CLASSES.search(key)) and not (same_classes and key in tensors and key in fresh)

    brought = {key: tensor for key, tensor in tensors.items() if not starts_anew(key)}
    brought |= {key: tensor for key, tensor in fresh.items() if starts_anew(key)}
    odd = misfit(brought, fresh)
    if odd is None:
        fill(new, brought)
    return odd


def _with_detail(old: OverlappingPatchEmbedding, new: OverlappingPatchEmbedding) -> dict[str, Tensor]:
    """The map of D's patches where it will also see fine detail: that starts at zero, so D is the same at first."""
    if (2 * old.channels, old.kernel_size) != (new.channels, new.kernel_size):
        return {}  # other patches, which do not fit
    more = old.linear.in_features
    tensors = {"weight": F.pad(old.linear.weight.detach() * (old.linear.scale / new.linear.scale), (0, more))}
    if old.linear.weight_norm is not None:
        tensors["weight_norm.right_vector"] = F.pad(old.linear.weight_norm.right_vector, (0, more))
    return {f"patch_embedding.linear.{key}": tensor for key, tensor in tensors.items()}
