"""RunConfig: everything that defines a run, composed of the Configs that live beside their owners."""

from pathlib import Path

from pydantic import Field

from vitgan.augment import AugmentConfig
from vitgan.errors import UserError
from vitgan.files.tensors import check_sizes
from vitgan.models.build import ModelConfig
from vitgan.schema import Config
from vitgan.training.config import TrainingConfig
from vitgan.training.objective import ObjectiveConfig


class RunConfig(Config):
    """A run: the two players, what they minimise, and how they are trained. Written to a run's config.json."""

    preset: str = Field(default="custom", pattern=r"^[^/\\\x00-\x1f]{1,100}$")
    """Name of the preset that the run began from."""
    data: str = "fashion-mnist"
    """Folder of an image store (made by `vitgan data`), or "fashion-mnist" for the bundled images."""
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

    def check(self) -> None:
        """Refuses parts that contradict each other.

        Raises:
            UserError: Naming the fields and a way out.
        """
        kernels = {
            "generator": getattr(self.model.generator, "attention_kernel", None),
            "discriminator": getattr(self.model.discriminator, "attention_kernel", None),
        }
        forced = [name for name, kernel in kernels.items() if kernel == "fused"]
        if self.objective.needs_double_backward and forced:
            raise UserError(
                f"model.{forced[0]}.attention_kernel fused has no second derivative, which exact R1, R2, WGAN-GP and path "
                "length need: set it to auto, or --objective.penalty finite_difference"
            )
        augmented = self.objective.diffaugment or self.objective.bcr_real or self.objective.bcr_fake
        if augmented and self.augment.probability == 0:
            raise UserError(
                "augment.probability 0 leaves DiffAugment and bCR nothing to do: raise it, or set "
                "--objective.no-diffaugment --objective.bcr-real 0 --objective.bcr-fake 0"
            )
        if self.objective.bcr_ramp_images and not (self.objective.bcr_real or self.objective.bcr_fake):
            raise UserError(
                "objective.bcr_ramp_images has no bCR to raise: leave it out, or set --objective.bcr-real 10 "
                "--objective.bcr-fake 10"
            )
        check_sizes(self.model, Path("model"))
        self._check_trackers()
        self._check_step()

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
                f"training.micro_batch_size {micro} does not divide a process's share of the batch, {share} images: "
                "choose a size that does"
            )
        # A batch smaller than a group is one group, as in StyleGAN2.
        group = min(getattr(self.model.discriminator, "minibatch_stddev_group", 1), batch)
        if (micro or share) % group:
            part = f"training.micro_batch_size {micro}" if micro else f"training.batch_size {batch}"
            of = f", {share} images for each process," if share != batch and not micro else ""
            raise UserError(
                f"{part}{of} is no multiple of model.discriminator.minibatch_stddev_group {group}, images that D compares: "
                "change one of the two"
            )

    def _check_trackers(self) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

        installed = sorted(str(kind) for kind in get_available_trackers())
        for name in self.training.trackers:
            if name not in LOGGER_TYPE_TO_CLASS or self.training.trackers.count(name) > 1:
                reason = "is named twice" if name in LOGGER_TYPE_TO_CLASS else "is none that accelerate knows"
                raise UserError(f"training.trackers: {name!r} {reason}: choose from {', '.join(LOGGER_TYPE_TO_CLASS)}")
            if name not in installed:
                raise UserError(
                    f"training.trackers: {name} is not installed: install it, or choose {' or '.join(installed)}"
                )

    def _check_step(self) -> None:
        objective, training = self.objective, self.training
        size = training.micro_batch_size
        self.check_share(training.batch_size)
        averages = [name for name in ("lecam", "path_length") if getattr(objective, name)]
        if size is not None and averages:
            raise UserError(
                f"objective.{averages[0]} needs the mean over the whole batch, which training.micro_batch_size splits: "
                f"leave out one of the two (--training.checkpoint-activations saves memory as well)"
            )
        if training.compile and objective.needs_double_backward:
            raise UserError(
                "training.compile: compiled blocks have no second derivative, which exact R1, R2, WGAN-GP and path "
                "length need: leave it out, or set --objective.penalty finite_difference"
            )
