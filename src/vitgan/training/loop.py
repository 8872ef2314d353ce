"""The training loop: runs the two phases of each step, counts images, and writes what the run leaves behind."""

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from pydantic import Field
from torch import Tensor, nn

from vitgan.augment import AugmentConfig
from vitgan.errors import UserError
from vitgan.grid import enlargement, image_grid, save_image
from vitgan.layers.attention import SelfAttention
from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.generator import Generator
from vitgan.schema import Config
from vitgan.training.checkpoint import (
    checkpoint_name,
    latest_checkpoint,
    load_checkpoint,
    prune_checkpoints,
    remember_best,
    save_checkpoint,
)
from vitgan.training.ema import average_decay, averaged_copy, update_average
from vitgan.training.guard import (
    MOST_ROLLBACKS,
    MOST_SKIPPED_IN_A_ROW,
    Divergence,
    Guard,
    copy_buffers,
    restore_buffers_where,
)
from vitgan.training.instruments import measure
from vitgan.training.log import MetricsFile, Rate, append_event
from vitgan.training.phases import Objective, ObjectiveConfig, Parts
from vitgan.training.randomness import StepRandomness
from vitgan.training.state import TrainingState


class TrainingConfig(Config):
    """How long, how fast, and what is written. The defaults are the paper's where it states them."""

    batch_size: int = Field(default=128, ge=1)
    """Images per step, over all processes."""
    total_kimg: float = Field(default=25_000, gt=0)
    """Length of the run in thousands of real images shown to D [choice]."""
    max_minutes: float | None = Field(default=None, gt=0)
    """End after this many minutes, counted anew after a resume, even if `total_kimg` is not reached."""
    learning_rate: float = Field(default=0.002, gt=0)
    """Adam's, for both players."""
    discriminator_learning_rate: float | None = Field(default=None, gt=0)
    """D's, where it differs."""
    adam_beta1: float = Field(default=0.0, ge=0, lt=1)
    adam_beta2: float = Field(default=0.99, ge=0, lt=1)
    lr_warmup_images: int = Field(default=0, ge=0)
    """The learning rate rises linearly from 0 over this many images."""
    ema_half_life_images: float = Field(default=10_000, gt=0)
    """Half-life of the averaged generator [choice: StyleGAN2's 10 thousand]."""
    ema_warmup: float = Field(default=0.05, ge=0)
    """The half-life is at most this share of the images seen so far; 0 is no warm-up."""
    horizontal_flip: bool = False
    """Flip each real image with probability 1/2."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """bf16 autocast, or float32; auto is bf16 where the processor computes with it."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU where there is one."""
    seed: int = Field(default=0, ge=0)
    log_every_kimg: float = Field(default=1.0, gt=0)
    samples_every_kimg: float = Field(default=50.0, gt=0)
    checkpoint_every_kimg: float = Field(default=200.0, gt=0)
    keep_checkpoints: int = Field(default=3, ge=0)
    """How many of the newest checkpoints stay; 0 is all."""
    instruments: bool = True
    """Measure spectral norms and attention entropies of D with every log record."""
    sample_count: int = Field(default=64, ge=1)
    """Images in a sample grid."""
    on_divergence: Literal["stop", "skip", "rollback"] = "stop"
    """After an update whose loss or gradient is not finite, or whose logits are past the bound (it is never applied):
    end the run, go on with the next batch, or go back to the last checkpoint with lower learning rates."""
    logit_bound: float = Field(default=10_000, gt=0)
    """Mean logits of D beyond this, in either direction, count as divergence."""
    rollback_rate: float = Field(default=0.5, gt=0, lt=1)
    """Factor on the learning rates each time the run goes back."""
    trackers: tuple[str, ...] = ("tensorboard",)
    """Trackers besides metrics.jsonl, by accelerate's names: tensorboard, wandb, mlflow, ..."""


class Batches(Protocol):
    """An endless iterator over uint8 images (B, C, H, W) and labels (B,) or None."""

    def __next__(self) -> tuple[np.ndarray, np.ndarray | None]: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """Where real images come from, at any point of the run."""

    def batches(self, images_seen: int) -> Batches: ...


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation of the averaged generator found."""

    figures: dict[str, float]
    """All figures by name."""
    name: str
    """The figure that checkpoints are chosen by."""
    score: float
    """Its value, lower is better."""


@dataclass
class Hooks:
    """What the caller wants to know; all optional. Called on the main process only, but `should_stop`."""

    on_step: Callable[[int, int], None] | None = None
    """(images seen, images in all), after every step."""
    on_log: Callable[[dict[str, float]], None] | None = None
    on_samples: Callable[[Path], None] | None = None
    on_notice: Callable[[str], None] | None = None
    """One line about something that the run survived: a damaged checkpoint, a skipped update, a way back."""
    should_stop: Callable[[], bool] | None = None
    """Asked after every step on every process: True on any saves a checkpoint and ends the run."""
    evaluate: Callable[[Generator], Evaluation] | None = None
    """Measures the averaged generator every `evaluate_every_kimg`."""
    evaluate_every_kimg: float = float("inf")


@dataclass
class Trainer:
    """One run: two players, their optimisers, and the folder that they write to."""

    model: ModelConfig
    objective_config: ObjectiveConfig
    augmentation: AugmentConfig
    config: TrainingConfig
    accelerator: Accelerator
    run: Path
    state: TrainingState = field(init=False)
    objective: Objective = field(init=False)
    guard: Guard = field(init=False)

    def __post_init__(self) -> None:
        device = self.accelerator.device
        generator = build_generator(self.model.generator_spec(), self.config.seed).to(device)
        discriminator = build_discriminator(self.model, self.config.seed + 1).to(device)
        self.objective = Objective(
            self.objective_config, self.augmentation, lambda tensor: self._reduced(tensor, "mean")
        ).to(device)
        if self.objective_config.needs_double_backward:
            for module in (*generator.modules(), *discriminator.modules()):
                if isinstance(module, SelfAttention) and module.kernel == "auto":
                    module.kernel = "explicit"  # the fused kernel has no second derivative
        self.guard = Guard(self.config.logit_bound, device)
        self.state = TrainingState(
            generator=generator,
            discriminator=discriminator,
            generator_ema=averaged_copy(generator),
            generator_optimizer=self._adam(generator),
            discriminator_optimizer=self._adam(discriminator),
            objective=self.objective,
        )

    @property
    def total_images(self) -> int:
        return round(self.config.total_kimg * 1000)

    def step(self, real: Tensor, labels: Tensor | None, randomness: StepRandomness) -> Parts:
        """One update of D, then one of G.

        Args:
            real: This process's share of the batch (b, C, H, W), float32 in [-1, 1].
            labels: (b,) int64 for a conditional model.
            randomness: The step's draws.

        Returns:
            Losses, logits and gradient norms, scalars on the device.
        """
        state = self.state
        self._set_learning_rate()

        update_spectral_norms(state.discriminator)
        state.discriminator.requires_grad_(True)
        averages = copy_buffers(self.objective)
        with self.accelerator.autocast():
            loss, parts = self.objective.discriminator_loss(
                state.generator, state.discriminator, real, labels, randomness
            )
        loss.backward()
        suspicion = self.guard.suspicion(loss, parts)
        norms, bad = self._update(state.discriminator, state.discriminator_optimizer, "discriminator", suspicion)
        restore_buffers_where(bad, self.objective, averages)

        state.discriminator.requires_grad_(False)
        averages = copy_buffers(self.objective)
        with self.accelerator.autocast():
            loss, generator_parts = self.objective.generator_loss(
                state.generator, state.discriminator, real, labels, randomness
            )
        loss.backward()
        suspicion = self.guard.suspicion(loss, generator_parts)
        generator_norms, bad = self._update(state.generator, state.generator_optimizer, "generator", suspicion)
        restore_buffers_where(bad, self.objective, averages)

        parts |= norms | generator_parts | generator_norms
        self.guard.end_of_step(state.step, parts)
        state.step += 1
        state.images_seen += self.config.batch_size
        decay = average_decay(
            self.config.batch_size, state.images_seen, self.config.ema_half_life_images, self.config.ema_warmup
        )
        update_average(state.generator_ema, state.generator, decay)
        return parts

    def fit(self, stream: Stream, hooks: Hooks | None = None) -> bool:
        """Trains until the run's length; returns whether it got there (False: stopped by `should_stop`).

        Raises:
            UserError: If the run diverges and is to stop then, or if what it leaves behind cannot be written.
        """
        hooks, deadline = hooks or Hooks(), float("inf")
        if self.config.max_minutes is not None:
            deadline = time.monotonic() + self.config.max_minutes * 60
        if self.config.on_divergence == "rollback" and self.state.images_seen == 0:
            self.save()  # something to go back to
        while (outcome := self._fit_from_here(stream, hooks, deadline)) == "went back":
            pass
        return outcome == "finished"

    def _fit_from_here(
        self, stream: Stream, hooks: Hooks, deadline: float
    ) -> Literal["finished", "stopped", "went back"]:
        state, config = self.state, self.config
        main = self.accelerator.is_main_process
        metrics = MetricsFile(self.run / "metrics.jsonl", state.images_seen) if main else None
        rate = Rate(state.images_seen)
        if main and state.images_seen == 0:
            self._write_samples(hooks)
        finished = state.images_seen >= self.total_images
        with closing(stream.batches(state.images_seen)) as batches:
            while not finished:
                randomness = StepRandomness(
                    config.seed, state.step, self.accelerator.process_index, self.accelerator.num_processes
                )
                real, labels = self._to_device(*next(batches), randomness)
                before = state.images_seen
                state.statistics.add(self.step(real, labels, randomness))

                finished = state.images_seen >= self.total_images or self._agreed(time.monotonic() > deadline)
                stopped = self._agreed(hooks.should_stop is not None and hooks.should_stop())
                evaluating = finished or _passes(before, state.images_seen, hooks.evaluate_every_kimg)
                saving = evaluating or stopped or _passes(before, state.images_seen, config.checkpoint_every_kimg)
                divergence = self.guard.look(state.step, now=saving)
                if divergence is not None and self._diverged(divergence, real, hooks):
                    return "went back"
                if main and hooks.on_step:
                    hooks.on_step(state.images_seen, self.total_images)
                if finished or _passes(before, state.images_seen, config.log_every_kimg):
                    self._log(metrics, rate, real, hooks)
                if main and (finished or _passes(before, state.images_seen, config.samples_every_kimg)):
                    self._write_samples(hooks)
                if metrics is not None and hooks.evaluate is not None and evaluating:
                    self._evaluate(metrics, hooks.evaluate)
                if saving:
                    self.save()
                if stopped and not finished:
                    return "stopped"
        return "finished"

    def _diverged(self, divergence: Divergence, real: Tensor, hooks: Hooks) -> bool:
        """Reports bad updates and does what the configuration says; whether the run went back to a checkpoint.

        Raises:
            UserError: If it is to stop, or cannot go on.
        """
        state, policy = self.state, self.config.on_divergence
        where = f"step {divergence.step} diverged ({divergence.reason}; seed {self.config.seed})"
        if self.accelerator.is_main_process:
            event = {
                "event": "divergence",
                "policy": policy,
                "step": divergence.step,
                "batch_seed": [self.config.seed, divergence.step],
                "skipped_steps": divergence.steps,
                "learning_rate_scale": state.learning_rate_scale,
                "figures": {name: f"{value:.6g}" for name, value in divergence.figures.items()},
                "instruments": {name: f"{value:.6g}" for name, value in measure(state.discriminator, real).items()},
            }
            append_event(self.run / "events.jsonl", event)
        resume = f"`vitgan train --resume {self.run} --training.on-divergence"
        if policy == "stop":
            raise UserError(f"{where}; see events.jsonl, and go on with {resume} rollback` or skip")
        if policy == "skip":
            if divergence.in_a_row >= MOST_SKIPPED_IN_A_ROW:
                raise UserError(
                    f"{where}, and so did the {divergence.in_a_row} last ones: go back with {resume} rollback`"
                )
            _notify(hooks, f"{where}: its update was skipped")
            return False
        checkpoint = latest_checkpoint(self.run)
        scale = state.learning_rate_scale * self.config.rollback_rate
        if checkpoint is None or scale < self.config.rollback_rate ** (MOST_ROLLBACKS + 0.5):
            raise UserError(f"{where}, and going back {MOST_ROLLBACKS} times to lower learning rates did not help")
        self.accelerator.wait_for_everyone()
        load_checkpoint(checkpoint, state)
        state.learning_rate_scale = scale
        self.guard.reset()
        _notify(hooks, f"{where}: back at {checkpoint.name} with learning rates × {scale:g}")
        return True

    def save(self) -> None:
        """Writes a checkpoint from the main process; the others wait."""
        if self.accelerator.is_main_process:
            save_checkpoint(self.run, self.state)
            prune_checkpoints(self.run, self.config.keep_checkpoints)
        self.accelerator.wait_for_everyone()

    def _agreed(self, flag: bool) -> bool:
        """Whether any process says so: all must leave the loop at the same step."""
        if self.accelerator.num_processes == 1:
            return flag
        return self._reduced(torch.tensor(float(flag), device=self.accelerator.device), "sum").item() > 0

    def _reduced(self, tensor: Tensor, reduction: str) -> Tensor:
        if self.accelerator.num_processes == 1:
            return tensor
        result = self.accelerator.reduce(tensor, reduction=reduction)
        assert isinstance(result, Tensor)
        return result

    def _adam(self, module: nn.Module) -> torch.optim.Adam:
        learning_rate = self.config.learning_rate
        betas = (self.config.adam_beta1, self.config.adam_beta2)
        return torch.optim.Adam(module.parameters(), lr=learning_rate, betas=betas, eps=1e-8, fused=True)

    def _set_learning_rate(self) -> None:
        config = self.config
        warmup = min(1.0, (self.state.images_seen + config.batch_size) / max(config.lr_warmup_images, 1))
        rates = (config.learning_rate, config.discriminator_learning_rate or config.learning_rate)
        optimizers = (self.state.generator_optimizer, self.state.discriminator_optimizer)
        for rate, optimizer in zip(rates, optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * warmup * self.state.learning_rate_scale

    def _update(
        self, module: nn.Module, optimizer: torch.optim.Optimizer, name: str, suspicion: Tensor
    ) -> tuple[Parts, Tensor]:
        """Averages the gradients over processes, steps (unless the update is bad), clears.

        Returns:
            The gradient's norm, and 1.0 if the update was skipped, else 0.0.
        """
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        if self.accelerator.num_processes > 1:
            # One flat tensor, not DistributedDataParallel: that allows one forward pass per backward pass, and a GAN's
            # discriminator has several. The guard's suspicion travels with it.
            flat = self._reduced(torch.cat([*(g.flatten() for g in gradients), suspicion.view(1)]), "mean")
            *averages, suspicion = flat.split([*(g.numel() for g in gradients), 1])
            for gradient, average in zip(gradients, averages, strict=True):
                gradient.copy_(average.view_as(gradient))
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
        bad = self.guard.verdict(norm, suspicion.view(()))
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # fused Adam then leaves everything as it is
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return {f"gradient_norm/{name}": norm, f"gradient_norm/{name}_max": norm}, bad

    def _to_device(
        self, images: np.ndarray, labels: np.ndarray | None, randomness: StepRandomness
    ) -> tuple[Tensor, Tensor | None]:
        """uint8 images to float32 in [-1, 1] on the device, flipped where the run says so."""
        real = torch.from_numpy(images).to(self.accelerator.device).float() / 127.5 - 1
        if self.config.horizontal_flip:
            flip = randomness.uniform("horizontal flip", len(real)).to(real.device) < 0.5
            real = torch.where(flip.view(-1, 1, 1, 1), real.flip(3), real)
        if self.model.num_classes == 0 or labels is None:
            return real, None
        return real, torch.from_numpy(labels).long().to(real.device)

    def _log(self, metrics: MetricsFile | None, rate: Rate, real: Tensor, hooks: Hooks) -> None:
        state = self.state
        figures = state.statistics.collect()
        if metrics is None:
            return
        record = {"images": state.images_seen, "step": state.step, **figures}
        if self.config.instruments:
            record |= measure(state.discriminator, real)
        record["images_per_second"] = rate(state.images_seen)
        metrics.append(record)
        self.accelerator.log({k: v for k, v in record.items() if k != "images"}, step=state.images_seen)
        if hooks.on_log:
            hooks.on_log(record)

    def _evaluate(self, metrics: MetricsFile, evaluate: Callable[[Generator], Evaluation]) -> None:
        """Measures the averaged generator, and remembers the checkpoint about to be written if it is the best."""
        state = self.state
        state.generator_ema.update_w_mean()
        result = evaluate(state.generator_ema)
        figures = {f"evaluation/{name}": value for name, value in result.figures.items()}
        metrics.append({"images": state.images_seen, "step": state.step, **figures})
        self.accelerator.log(figures, step=state.images_seen)
        remember_best(self.run, state.images_seen, result.name, result.score)

    def _write_samples(self, hooks: Hooks) -> None:
        self.state.generator_ema.update_w_mean()
        images = self.state.generator_ema.sample(self.config.sample_count, seed=self.config.seed)
        path = self.run / "samples" / f"{checkpoint_name(self.state.images_seen)}.png"
        save_image(image_grid(images, enlarge=enlargement(self.model.resolution)), path)
        if hooks.on_samples:
            hooks.on_samples(path)


def _passes(before: int, after: int, every_kimg: float) -> bool:
    """Whether the count went over a multiple of `every_kimg` thousand images."""
    every = every_kimg * 1000
    return after // every > before // every  # an infinite interval is never passed


def _notify(hooks: Hooks, line: str) -> None:
    if hooks.on_notice:
        hooks.on_notice(line)
