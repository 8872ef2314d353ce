"""RunConfig: everything that defines a run, composed of the Configs that live beside their owners."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, model_validator

from vitgan.errors import UserError, similar
from vitgan.files.pictures import check_picture_size, enlargement, grid_shape
from vitgan.files.tensors import check_sizes
from vitgan.models.build import ModelConfig
from vitgan.schema import Config, first_problem, flat
from vitgan.training.augment import AugmentConfig
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
    """The training images: a store (made by `vitgan data`), or "fashion-mnist" for the bundled images, unless a folder
    here is called so. A folder, zip, tar or hf://owner/name (a data set on the Hub) is prepared first, into the runs'
    folder."""
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
        self._check_step()
        self._check_objective()
        self._check_latents()
        self.check_share(self.training.batch_size)
        rows, columns = grid_shape(self.training.sample_count)
        side = self.model.image_size * enlargement(self.model.image_size)
        try:
            check_picture_size(columns * side, rows * side)
        except UserError as error:
            raise UserError(f"the grid of sample_count images: {error}", "training.sample_count") from error
        return self

    def check_share(self, share: int) -> None:
        """Refuses what would make the update another one than the whole batch's.

        Args:
            share: Images of the batch that one process has.

        Raises:
            UserError: If micro-batches do not divide the share, or a group of D's minibatch standard deviation is split.
        """
        batch, micro = self.training.batch_size, self.training.micro_batch_size
        at_once = micro or share
        name = "training.batch_size" if micro is None else "training.micro_batch_size"
        refuse(share % at_once, name, f"{micro} does not divide the {share} images that a process has of a batch")
        refuse(self.objective.energy and at_once < 2, name, "lets D see one image, and energy compares 2 or more")
        # A batch smaller than a group is one group, as in StyleGAN2.
        group = min(getattr(self.model.discriminator, "minibatch_stddev_group", 1), batch)
        refuse(
            at_once % group,
            name,
            f"lets D see {at_once} images at once, no multiple of minibatch_stddev_group {group}: change one of the two",
        )

    def _check_step(self) -> None:
        training, objective = self.training, self.objective
        if objective.needs_double_backward:
            lacks = "has no second derivative, which exact R1, R2, WGAN-GP and path length need"
            for name in ("generator", "discriminator"):
                kernel = getattr(getattr(self.model, name), "attention_kernel", None)
                field = f"model.{name}.attention_kernel"
                refuse(kernel == "fused", field, f"fused {lacks}: take auto, or finite_difference as penalty")
            reason = f"makes code that {lacks}: take never, or take finite_difference as penalty"
            refuse(training.compile != "never", "training.compile", reason)
        if training.cuda_graphs:
            refuse(training.compile == "never", "training.compile", "is needed by cuda_graphs: take always or auto")
            reason = "gives back what cuda_graphs keeps: set one of the two to False"
            refuse(training.checkpoint_activations, "training.checkpoint_activations", reason)
        averages = [name for name in ("lecam", "path_length") if getattr(objective, name)]
        refuse(
            training.micro_batch_size is not None and averages,
            "training.micro_batch_size",
            f"splits the batch whose mean {' and '.join(averages)} need: leave out one of the two (checkpoint_activations "
            "saves memory as well)",
        )
        reason = "keeps layers of D as another training left them: set init_from to that, or leave it out"
        refuse(training.freeze_d and self.init_from is None, "training.freeze_d", reason)

    def _check_objective(self) -> None:
        objective, augment, discriminator = self.objective, self.augment, self.model.discriminator
        bcr = objective.bcr_real or objective.bcr_fake
        reason = "0 leaves diffaugment, bcr_real and bcr_fake nothing to do: raise it, or turn them off"
        refuse((objective.diffaugment or bcr) and augment.probability == 0, "augment.probability", reason)
        changes = (augment.translation, augment.color, augment.cutout, augment.scaling)
        reason = "does nothing while translation, color, cutout and scaling are off: turn one of them on, or it off"
        user = next((name for name in ("diffaugment", "bcr_real", "bcr_fake") if getattr(objective, name)), None)
        refuse(user and not any(changes), f"objective.{user}", reason)
        refuse(
            augment.adaptive is not None and (not objective.diffaugment or objective.loss == "wasserstein"),
            "augment.adaptive",
            "asks how sure D is of augmented images: it needs objective.diffaugment, and a loss other than wasserstein, "
            "whose logits have no zero; set it to None to go without",
        )
        reason = "has no bCR to raise: leave it out, or set bcr_real and bcr_fake, for example to 10"
        refuse(objective.bcr_ramp_images and not bcr, "objective.bcr_ramp_images", reason)
        kind = discriminator.kind
        reason = f"looks at frozen features, and a D of kind {kind} has none: begin from a preset with -projected"
        refuse(objective.energy and kind != "projected", "objective.energy", reason)
        classifier = getattr(discriminator, "classifier", False)
        reason = "is not for a D that judges scaled levels: set it to False"
        refuse(classifier and self.model.scaled_levels, "model.discriminator.classifier", reason)
        reason = "projected sees images of 1 or 3 channels, and these are others: choose another, for example vit"
        unseen = kind == "projected" and self.model.vae is None and self.model.channels not in (1, 3)
        refuse(unseen, "model.discriminator.kind", reason)
        reason = "compares levels of several resolutions: set generator.levels to scaled, and num_levels to 2 or more"
        no_levels = objective.level_consistency and not self.model.scaled_levels
        refuse(no_levels, "objective.level_consistency", reason)

        features, field = getattr(discriminator, "alignment_features", None), "model.discriminator.alignment_features"
        reason = "is missing, and objective.alignment needs it: set it, for example to lite2, of a D of kind vit"
        refuse(objective.alignment and features is None, field, reason)
        if features is not None:
            reason = f"is 0, so nothing is aligned with {features}: set it too, for example to 0.5"
            refuse(not objective.alignment, "objective.alignment", reason)
            reason = (
                f"{features} sees images of 1 or 3 channels, and these are others: leave out objective.alignment too"
            )
            refuse(self.model.vae is not None or self.model.channels not in (1, 3), field, reason)

    def _check_latents(self) -> None:
        if self.model.vae is None:
            return
        reason = "mirrors pixels, and a latent's mirror is no latent: set it to False, and encode the store with flips"
        refuse(self.training.horizontal_flip, "training.horizontal_flip", reason)
        reason = "holds pixels in [-1, 1], and latents have no bounds: leave it out"
        refuse(self.objective.out_of_range, "objective.out_of_range", reason)
        reason = "keeps images in [-1, 1], and latents have no bounds: set it to False"
        refuse(getattr(self.model.generator, "bounded", False), "model.generator.bounded", reason)
        reason = "projected looks at frozen features of pixels, and these are latents: choose vit"
        refuse(self.model.discriminator.kind == "projected", "model.discriminator.kind", reason)


def refuse(wrong: object, field: str, reason: str) -> None:
    """Raises a UserError about a field, if something is wrong; the reason goes on where the field's name ends."""
    if wrong:
        raise UserError(f"{field} {reason}", field)


def among(*values: object) -> Callable[[object], bool]:
    """Whether a value is one of these."""
    return lambda value: value in values


BCR_OR_DIFFAUGMENT = {"objective.diffaugment": bool, "objective.bcr_real": bool, "objective.bcr_fake": bool}
R1_OR_R2 = {"objective.r1_gamma": bool, "objective.r2_gamma": bool}

CLASSES = {"model.conditional": bool}
CLASSIFIER = {"model.discriminator.classifier": bool}

Others = Mapping[str, Callable[[Any], bool]]
NEEDS: dict[str, Others | tuple[Others, ...]] = {
    "protocol": {"evaluate_every_kimg": bool},
    "model.num_classes": {"model.conditional": bool},
    "model.generator.gate_bias": {"model.generator.gated": bool},
    "model.generator.position_frequency": {"model.generator.positions": among("sine")},
    "model.generator.pixel_frequency": {"model.generator.pixel_mapping": among("inr")},
    "model.generator.inr_dim": {"model.generator.pixel_mapping": among("inr", "conv", "interpolated")},
    "model.generator.levels": {"model.generator.num_levels": lambda count: count > 1},
    "model.generator.modulation_init": {"model.generator.latent_mapping": among("sln")},
    "model.generator.modulation_silu": {
        "model.generator.latent_mapping": among("sln"),
        "model.generator.pixel_mapping": among("conv"),
    },
    "model.discriminator.position_frequency": {"model.discriminator.positions": among("sine")},
    "model.discriminator.alignment_block": {"model.discriminator.alignment_features": bool},
    "model.discriminator.alignment_size": {"model.discriminator.alignment_features": bool},
    "objective.classification": (CLASSES, CLASSIFIER),
    "model.discriminator.classifier": (CLASSES, {"objective.classification": bool}),
    "objective.out_of_range": {"model.generator.bounded": among(False, None)},
    "objective.path_length": {"model.generator.bounded": among(False, None)},  # a way back is no Jacobian
    "objective.penalty": R1_OR_R2,
    "objective.penalty_noise": ({"objective.penalty": among("finite_difference")}, R1_OR_R2),
    "objective.penalty_interval": R1_OR_R2 | {"objective.wgan_gp": bool},
    "objective.lecam_decay": {"objective.lecam": bool},
    "objective.path_length_interval": {"objective.path_length": bool},
    "objective.style_mixing": {"model.generator.latent_mapping": among("sln", None)},
    "training.rollback_rate": {"training.on_divergence": among("rollback")},
    **{f"augment.{name}": BCR_OR_DIFFAUGMENT for name in AugmentConfig.model_fields},
    "augment.adaptive_kimg": {"augment.adaptive": bool},
}
"""Fields that do something only beside certain values of others: of one of them, where there are several, and of one of
each group, where there are groups. A network that lacks a field has None."""


def check_effect(config: RunConfig, fields: Iterable[str]) -> None:
    """Refuses fields that somebody set and that do nothing beside the others. What a preset leaves behind is no fault.

    None turns something off, so it is never refused: what others leave idle may need it.

    Args:
        config: A whole configuration.
        fields: Dotted names of what was set.

    Raises:
        UserError: Naming the field, and what keeps it from doing anything.
    """
    values = dict(flat(config.model_dump()))
    for field in fields:
        if values.get(field) is not None and (others := idle_beside(field, values)):
            reasons = " and ".join(f"{name} is {values.get(name)}" for name in others)
            raise UserError(f"{field} does nothing while {reasons}: leave it out, or change that too", field)


def idle_beside(field: str, values: Mapping[str, object]) -> list[str]:
    """The fields beside whose values a field does nothing; none if it does something."""
    needs = NEEDS.get(field, ())
    for others in needs if isinstance(needs, tuple) else (needs,):
        if not any(works(values.get(name)) for name, works in others.items()):
            return [*others]
    return []


def differences(config: RunConfig, base: RunConfig) -> dict[str, tuple[Any, Any]]:
    """(the base's value, the configuration's) by the dotted names of the fields that differ; None where one lacks it."""
    before, after = dict(flat(base.model_dump(mode="json"))), dict(flat(config.model_dump(mode="json")))
    both = {name: (before.get(name), after.get(name)) for name in before | after}
    return {name: (old, new) for name, (old, new) in both.items() if old != new}


def changed(config: RunConfig, changes: Mapping[str, object]) -> RunConfig:
    """A copy with other values at dotted names, validated; see `vitgan.preset` and `merged`.

    Raises:
        UserError: If there is no such field, with the nearest names, or a value does not fit or does nothing.
    """
    tree: dict[str, Any] = {}
    # A whole part first, whatever the order: it would take back what stands inside it.
    for name, value in sorted(changes.items(), key=lambda change: change[0].count(".")):
        *path, last = name.split(".")
        section = tree
        for part in path:
            section = section.setdefault(part, {})
        section[last] = value.model_dump() if isinstance(value, Config) else value
    new = merged(config, tree)
    set_one_by_one = {name: value for name, value in changes.items() if not isinstance(value, Config)}
    check_effect(new, dict(flat(set_one_by_one)))
    return new


def merged(config: RunConfig, tree: Any) -> RunConfig:
    """A copy with the values of a tree of fields, as a configuration file holds it; what it leaves out stays.

    A network of another kind begins with that kind's own defaults.

    Raises:
        UserError: If there is no such field, with the nearest names, or a value does not fit.
    """
    values = config.model_dump()
    _merge(values, tree, "", [field for field, _ in flat(values)])
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        field, reason = first_problem(error)
        raise UserError(f"{field} {reason}", field) from error


def _merge(values: dict[str, Any], tree: Any, place: str, known: list[str]) -> None:
    if not isinstance(tree, dict):
        raise UserError(f"{place or 'the configuration'} must be a section with fields, but is {tree!r}", place or None)
    for key, value in tree.items():
        name = f"{place}.{key}".lstrip(".")
        if key not in values:
            raise _no_field(next((leaf for leaf, _ in flat({name: value})), name), known)
        section = values[key]
        if not isinstance(section, dict) or "kind" in values:  # a dictionary beside a kind is a value
            values[key] = value
        elif "kind" in section and isinstance(value, dict) and value.get("kind", section["kind"]) != section["kind"]:
            values[key] = value  # pydantic knows the fields of the other kind
        else:
            _merge(section, value, name, known)


def _no_field(name: str, known: list[str]) -> UserError:
    near = similar(name, known)
    hint = f"perhaps you meant {' or '.join(near)}" if near else f"fields are {', '.join(known)}"
    return UserError(f"there is no field {name} that takes a single value: {hint}", near[0] if near else None)
