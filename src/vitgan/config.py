"""RunConfig: everything that defines a run, composed of the Configs that live beside their owners."""

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from vitgan.augment import AugmentConfig
from vitgan.errors import UserError
from vitgan.files.pictures import check_picture_size, enlargement, grid_shape
from vitgan.files.tensors import check_sizes
from vitgan.models.build import ModelConfig
from vitgan.schema import Config, first_problem
from vitgan.training.config import TrainingConfig
from vitgan.training.objective import ObjectiveConfig


class RunConfig(Config):
    """A run: G and D, what they minimise, and how they are trained. Written to a run's config.json.

    Raises:
        UserError: If parts contradict each other, naming a field and a way out.
    """

    preset: str = Field(default="custom", pattern=r"^[^/\\\x00-\x1f]{1,100}$")
    """Name of the preset that the run began from."""
    data: str = "fashion-mnist"
    """The training images: a store (made by `vitgan data`), or "fashion-mnist" for the bundled images. A folder, zip, tar
    or hf://owner/name (a data set on the Hub) is prepared first, into the runs' folder."""
    init_from: str | None = None
    """Start from the weights of another run, or of a model that carries its networks, in place of random ones: optimisers
    and counters are new. A path, a bundled model's name, or a Hub repository."""
    model: ModelConfig = ModelConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    augment: AugmentConfig = AugmentConfig()
    training: TrainingConfig = TrainingConfig()
    evaluate_every_kimg: float | None = Field(default=None, gt=0)
    """Measure the averaged generator this often, and keep the best checkpoint; None is never."""
    protocol: str = "quick-5k"
    """Protocol of these evaluations (`vitgan evaluate --list-protocols`)."""

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        check_sizes(self.model, Path("model"))
        self._check_second_derivatives()
        self._check_cuda_graphs()
        self._check_augmentation()
        self._check_averages()
        self._check_energy()
        self._check_alignment()
        self._check_levels()
        self._check_latents()
        self._check_grid()
        self._check_freeze()
        self.check_share(self.training.batch_size)
        return self

    def check_share(self, share: int) -> None:
        """Refuses what would make the update another one than the whole batch's.

        Args:
            share: Images of the batch that one process has.

        Raises:
            UserError: If micro-batches do not divide the share, or a group of D's minibatch standard deviation is split.
        """
        batch, micro = self.training.batch_size, self.training.micro_batch_size
        if micro is not None and share % micro:
            raise UserError(
                f"micro_batch_size {micro} does not divide a process's share of the batch, {share} images: choose a size "
                "that does",
                "training.micro_batch_size",
            )
        if self.objective.energy and (micro or share) < 2:
            name = "batch_size" if micro is None else "micro_batch_size"
            raise UserError(
                f"energy compares images, and {name} leaves one at a time: raise it to 2 or more", f"training.{name}"
            )
        # A batch smaller than a group is one group, as in StyleGAN2.
        group = min(getattr(self.model.discriminator, "minibatch_stddev_group", 1), batch)
        if (micro or share) % group:
            name = "batch_size" if micro is None else "micro_batch_size"
            of = f", {share} images for each process," if share != batch and not micro else ""
            raise UserError(
                f"{name} {micro or batch}{of} is no multiple of D's minibatch_stddev_group {group}, images that D compares: "
                "change one of the two",
                f"training.{name}",
            )

    def _check_second_derivatives(self) -> None:
        if not self.objective.needs_double_backward:
            return
        need = "which exact R1, R2, WGAN-GP and path length need: set it to {}, or the penalty to finite_difference"
        for name in ("generator", "discriminator"):
            if getattr(getattr(self.model, name), "attention_kernel", None) == "fused":
                raise UserError(
                    f"{name}.attention_kernel fused has no second derivative, {need.format('auto')}",
                    f"model.{name}.attention_kernel",
                )
        if self.training.compile:
            raise UserError(
                f"compile: compiled blocks have no second derivative, {need.format('False')}", "training.compile"
            )

    def _check_cuda_graphs(self) -> None:
        training = self.training
        if training.cuda_graphs and not training.compile:
            raise UserError("cuda_graphs replays compiled blocks: set compile to True too", "training.compile")
        if training.cuda_graphs and training.checkpoint_activations:
            raise UserError(
                "cuda_graphs keeps what checkpoint_activations gives back: set one of the two to False",
                "training.checkpoint_activations",
            )

    def _check_augmentation(self) -> None:
        objective = self.objective
        bcr = objective.bcr_real or objective.bcr_fake
        if (objective.diffaugment or bcr) and self.augment.probability == 0:
            raise UserError(
                "augment.probability 0 leaves diffaugment, bcr_real and bcr_fake nothing to do: raise it, or turn them off",
                "augment.probability",
            )
        if self.augment.adaptive is not None and (not objective.diffaugment or objective.loss == "wasserstein"):
            raise UserError(
                "augment.adaptive asks how sure D is of augmented images: it needs objective.diffaugment, and a loss other "
                "than wasserstein, whose logits have no zero",
                "augment.adaptive",
            )
        if objective.bcr_ramp_images and not bcr:
            raise UserError(
                "bcr_ramp_images has no bCR to raise: leave it out, or set bcr_real and bcr_fake, for example to 10",
                "objective.bcr_ramp_images",
            )

    def _check_averages(self) -> None:
        averages = [name for name in ("lecam", "path_length") if getattr(self.objective, name)]
        if self.training.micro_batch_size is not None and averages:
            raise UserError(
                f"{averages[0]} needs the mean over the whole batch, which micro_batch_size splits: leave out one of the "
                "two (checkpoint_activations saves memory as well)",
                "training.micro_batch_size",
            )

    def _check_energy(self) -> None:
        kind = self.model.discriminator.kind
        if self.objective.energy and kind != "projected":
            raise UserError(
                f"energy compares frozen features, and a discriminator of kind {kind} has none: leave it out, or begin from "
                "a preset with -projected",
                "objective.energy",
            )

    def _check_alignment(self) -> None:
        features = getattr(self.model.discriminator, "alignment_features", None)
        if self.objective.alignment and features is None:
            raise UserError(
                "alignment compares D's tokens with a frozen network, and D has none: leave it out, or set "
                "discriminator.alignment_features, for example to lite2, of a discriminator of kind vit",
                "model.discriminator.alignment_features",
            )
        if features is not None and not self.objective.alignment:
            raise UserError(
                f"nothing is aligned with {features}: set objective.alignment too, for example to 0.5",
                "objective.alignment",
            )
        if features is not None and (self.model.vae is not None or self.model.channels not in (1, 3)):
            what = "latents" if self.model.vae is not None else f"images of {self.model.channels} channels"
            raise UserError(
                f"{features} sees images of 1 or 3 channels, and these are {what}: leave out objective.alignment and "
                "discriminator.alignment_features",
                "model.discriminator.alignment_features",
            )

    def _check_levels(self) -> None:
        if self.objective.level_consistency and not self.model.scaled_levels:
            raise UserError(
                "level_consistency compares levels of several resolutions, and this generator has none: leave it out, or "
                "set generator.levels to scaled and generator.num_levels to 2 or more",
                "objective.level_consistency",
            )

    def _check_latents(self) -> None:
        if self.model.vae is None:
            return
        if self.training.horizontal_flip:
            raise UserError(
                "horizontal_flip mirrors pixels, and the latent of a mirror image is no mirrored latent: set it to False, "
                "and encode the store with flips",
                "training.horizontal_flip",
            )
        if self.objective.out_of_range:
            raise UserError(
                "out_of_range holds pixels in [-1, 1], and latents have no bounds: leave it out",
                "objective.out_of_range",
            )
        if self.model.discriminator.kind == "projected":
            raise UserError(
                "a discriminator of kind projected looks at frozen features of pixels, and these are latents: choose vit",
                "model.discriminator.kind",
            )

    def _check_freeze(self) -> None:
        if self.training.freeze_d and self.init_from is None:
            raise UserError(
                "freeze_d keeps layers of D as another training left them: set init_from to that, or leave freeze_d out",
                "training.freeze_d",
            )

    def _check_grid(self) -> None:
        rows, columns = grid_shape(self.training.sample_count)
        side = self.model.image_size * enlargement(self.model.image_size)
        try:
            check_picture_size(columns * side, rows * side)
        except UserError as error:
            raise UserError(f"the grid of sample_count images: {error}", "training.sample_count") from error


def among(*values: object) -> Callable[[object], bool]:
    """Whether a value is one of these."""
    return lambda value: value in values


BCR_OR_DIFFAUGMENT = {"objective.diffaugment": bool, "objective.bcr_real": bool, "objective.bcr_fake": bool}
R1_OR_R2 = {"objective.r1_gamma": bool, "objective.r2_gamma": bool}

NEEDS: dict[str, Mapping[str, Callable[[Any], bool]]] = {
    "model.generator.gate_bias": {"model.generator.gated": bool},
    "model.generator.position_frequency": {"model.generator.positions": among("sine")},
    "model.generator.pixel_frequency": {"model.generator.pixel_mapping": among("inr")},
    "model.generator.inr_dim": {"model.generator.pixel_mapping": among("inr", "conv", "shuffle")},
    "model.generator.levels": {"model.generator.num_levels": lambda count: count > 1},
    "model.generator.modulation_init": {"model.generator.latent_mapping": among("sln")},
    "model.generator.modulation_silu": {
        "model.generator.latent_mapping": among("sln"),
        "model.generator.pixel_mapping": among("conv"),
    },
    "model.discriminator.position_frequency": {"model.discriminator.positions": among("sine")},
    "model.discriminator.alignment_block": {"model.discriminator.alignment_features": bool},
    "model.discriminator.alignment_size": {"model.discriminator.alignment_features": bool},
    "objective.penalty": R1_OR_R2,
    "objective.penalty_noise": {"objective.penalty": among("finite_difference")},
    "objective.penalty_interval": R1_OR_R2 | {"objective.wgan_gp": bool},
    "objective.lecam_decay": {"objective.lecam": bool},
    "objective.path_length_interval": {"objective.path_length": bool},
    "objective.style_mixing": {"model.generator.latent_mapping": among("sln")},
    "training.rollback_rate": {"training.on_divergence": among("rollback")},
    **{f"augment.{name}": BCR_OR_DIFFAUGMENT for name in AugmentConfig.model_fields},
    "augment.adaptive_kimg": {"augment.adaptive": bool},
}
"""Fields that do something only beside certain values of others: of one of them, where there are several."""


def check_effect(config: RunConfig, fields: Iterable[str]) -> None:
    """Refuses fields that somebody set and that do nothing beside the others. What a preset leaves behind is no fault.

    Args:
        config: A whole configuration.
        fields: Dotted names of what was set.

    Raises:
        UserError: Naming the field, and what keeps it from doing anything.
    """
    values = dict(flat(config.model_dump()))
    for field in fields:
        if others := idle_beside(field, values):
            reasons = " and ".join(f"{name} is {values[name]}" for name in others)
            raise UserError(f"{field} does nothing while {reasons}: leave it out, or change that too", field)


def idle_beside(field: str, values: Mapping[str, object]) -> list[str]:
    """The fields beside whose values a field does nothing; none if it does something."""
    others = {name: works for name, works in NEEDS.get(field, {}).items() if name in values}
    return [] if any(works(values[name]) for name, works in others.items()) else [*others]


def differences(config: RunConfig, base: RunConfig) -> list[str]:
    """Dotted names of the fields whose values are not the base's."""
    before = dict(flat(base.model_dump()))
    return [name for name, value in flat(config.model_dump()) if before.get(name) != value]


def check_trackers(names: tuple[str, ...]) -> None:
    """Refuses trackers that cannot be used here.

    Raises:
        UserError: If one is unknown to accelerate, named twice, or not installed.
    """
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = sorted(str(kind) for kind in get_available_trackers())
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS or names.count(name) > 1:
            reason = "is named twice" if name in LOGGER_TYPE_TO_CLASS else "is none that accelerate knows"
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise UserError(f"the tracker {name!r} {reason}: choose from {known}", "training.trackers")
        if name not in installed:
            raise UserError(
                f"the tracker {name} is not installed: install it, or choose {' or '.join(installed)}",
                "training.trackers",
            )


def changed(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """A copy with other values at dotted names, validated; see `vitgan.preset`.

    Raises:
        UserError: If there is no such field, with the nearest names, or a value does not fit or does nothing.
    """
    values = config.model_dump()
    for name, value in changes.items():
        *path, last = name.split(".")
        section: Any = values
        for part in path:
            section = section.get(part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or last not in section or isinstance(value, dict):
            raise _no_field(name, [field for field, _ in flat(values)])
        section[last] = value
    new = _validated(values)
    check_effect(new, changes)
    return new


def merged(config: RunConfig, tree: Any) -> RunConfig:
    """A copy with the values of a tree of fields, as a configuration file holds it; what it leaves out stays.

    A network of another kind begins with that kind's own defaults.

    Raises:
        UserError: If there is no such field, with the nearest names, or a value does not fit.
    """
    values = config.model_dump()
    _merge(values, tree, "", [field for field, _ in flat(values)])
    return _validated(values)


def _merge(values: dict[str, Any], tree: Any, place: str, known: list[str]) -> None:
    if not isinstance(tree, dict):
        raise UserError(f"{place or 'the configuration'} must be a section with fields, but is {tree!r}", place or None)
    for key, value in tree.items():
        name = f"{place}.{key}".lstrip(".")
        if key not in values:
            raise _no_field(name, known)
        section = values[key]
        if not isinstance(section, dict) or "kind" in values:  # a dictionary beside a kind is a value
            values[key] = value
        elif "kind" in section and isinstance(value, dict) and value.get("kind", section["kind"]) != section["kind"]:
            values[key] = value  # pydantic knows the fields of the other kind
        else:
            _merge(section, value, name, known)


def _validated(values: dict[str, Any]) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        field, reason = first_problem(error)
        raise UserError(f"{field} {reason}", field) from error


def _no_field(name: str, known: list[str]) -> UserError:
    same = [field for field in known if field.rpartition(".")[2] == name.rpartition(".")[2]]
    near = same or difflib.get_close_matches(name, known, n=2, cutoff=0.5)
    hint = f"perhaps you meant {' or '.join(near[:2])}" if near else f"fields are {', '.join(known)}"
    return UserError(f"there is no field {name} that takes a single value: {hint}", near[0] if near else None)


def flat(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of every leaf of a configuration's dump."""
    for name, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
