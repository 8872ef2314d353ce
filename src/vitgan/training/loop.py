"""The training loop: runs the two phases of each step, counts images, and writes what the run leaves behind."""

import copy
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from torch import Tensor, nn

from vitgan.errors import one_line
from vitgan.files.pictures import enlargement, image_grid, save_image
from vitgan.layers.attention import SelfAttention
from vitgan.models.build import ModelConfig, build_discriminator, build_generator
from vitgan.models.generator import Generator
from vitgan.training.agreement import Agreement
from vitgan.training.augment import AugmentConfig
from vitgan.training.blocks import checkpoint_activations, repeated_blocks
from vitgan.training.budget import Budget
from vitgan.training.checkpoint import checkpoint_name, load_newest, save_checkpoint
from vitgan.training.config import TrainingConfig
from vitgan.training.copies import DeviceCopies
from vitgan.training.guard import Divergence, Guard, goes_back, record_divergence
from vitgan.training.hooks import Evaluation, Hooks, Stream
from vitgan.training.instruments import measure_discriminator
from vitgan.training.log import EVALUATION, MetricsFile, is_evaluation, read_metrics
from vitgan.training.objective import Objective, ObjectiveConfig
from vitgan.training.profiler import profiled
from vitgan.training.randomness import StepRandomness
from vitgan.training.retention import prune_checkpoints, remember_best
from vitgan.training.state import TrainingState
from vitgan.training.step import GanStep
from vitgan.training.trackers import tell_images


class _Stopped(Exception):
    """The run is to stop before its evaluation is done."""


STEPS_TO_JUDGE = 16
"""After so many steps of a process `compile` auto judges how much is left of the run."""
WORTH_COMPILING_SECONDS = 3600.0
"""If more than this is left of it, auto compiles (docs/performance.md)."""


@dataclass
class Trainer:
    """One run: two networks, their optimisers, and the folder that they write to."""

    model: ModelConfig
    objective_config: ObjectiveConfig
    augmentation: AugmentConfig
    config: TrainingConfig
    accelerator: Accelerator
    run: Path
    state: TrainingState = field(init=False)
    guard: Guard = field(init=False)
    step: GanStep = field(init=False)
    budget: Budget = field(init=False)
    agreement: Agreement = field(init=False)
    _copied: DeviceCopies = field(init=False)
    _steps_to_judge: int = field(init=False)
    _mean_of: int | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        device = self.accelerator.device
        self.agreement = Agreement(self.accelerator)
        generator = build_generator(self.model.generator_spec(), self.config.seed).to(device)
        discriminator = build_discriminator(self.model, self.config.seed + 1).to(device)
        objective = Objective(self.objective_config, self.augmentation, self.agreement.mean)
        if self.objective_config.needs_double_backward:
            for module in (*generator.modules(), *discriminator.modules()):
                if isinstance(module, SelfAttention) and module.kernel == "auto":
                    module.kernel = "explicit"  # the fused kernel has no second derivative
        for parameter in discriminator.first_parameters(self.config.freeze_d):
            parameter.requires_grad_(False)
        generator_ema = copy.deepcopy(generator).eval().requires_grad_(False)
        if self.config.checkpoint_activations:
            checkpoint_activations(repeated_blocks(generator, discriminator))
        cuda_graphs = self.config.cuda_graphs and device.type == "cuda"
        self.guard = Guard(self.config.logit_bound, device)
        self.state = TrainingState(
            generator=generator,
            discriminator=discriminator,
            generator_ema=generator_ema,
            generator_optimizer=self._adam(generator),
            discriminator_optimizer=self._adam(discriminator),
            objective=objective.to(device),
        )
        self.step = GanStep(self.state, self.config, self.accelerator, self.guard, cuda_graphs)
        self.budget = Budget(self.config, self.state)
        self._copied = DeviceCopies(device)

    def fit(self, stream: Stream, hooks: Hooks | None = None) -> bool:
        """Trains until the run's length; returns whether it got there (False: stopped by `should_stop`).

        Raises:
            UserError: If the run diverges and is to stop then, or if what it leaves behind cannot be written.
        """
        hooks, state = hooks or Hooks(), self.state
        self._begin_to_count()
        if self.config.on_divergence == "rollback" and state.images_seen == 0:
            self.save()  # something to go back to
        with profiled(hooks, self.run, self.accelerator.device) as hooks:
            while (outcome := self._fit_from_here(stream, hooks)) == "went back":
                pass
        self._tell_trackers(lambda tracker: tracker.finish(), hooks)
        self.accelerator.trackers.clear()
        return outcome == "finished"

    def _fit_from_here(self, stream: Stream, hooks: Hooks) -> Literal["finished", "stopped", "went back"]:
        state, config = self.state, self.config
        main = self.accelerator.is_main_process
        metrics = MetricsFile(self.run / "metrics.jsonl", state.images_seen) if main else None
        if main and state.images_seen == 0:
            with self.budget.clock.paused():
                self._write_samples(hooks)
        self.budget.clock.lap(state.images_seen)
        if finished := self.budget.is_over:
            budgets = " and ".join(self.budget.used_up())
            self._notify(hooks, f"the run is finished at {state.images_seen:,} images: to go on, raise {budgets}")
        missing = metrics is not None and self._misses_evaluation(hooks, finished)
        (stopped,) = self.agreement.any(missing and not self._evaluates(metrics, hooks))
        with closing(stream.batches(state.images_seen)) as batches:
            while not (finished or stopped):
                accelerator = self.accelerator
                randomness = StepRandomness(
                    config.seed, state.step, accelerator.process_index, accelerator.num_processes, accelerator.device
                )
                real, labels = self._to_device(*next(batches), randomness)
                before = state.images_seen
                asked = self._take_step(real, labels, randomness, hooks)
                if config.compile == "auto" and not self.step.is_compiled:
                    self._compile_if_long(hooks)
                finished = self.budget.is_over
                stopped = asked and not finished
                evaluating = finished or _passes(before, state.images_seen, hooks.evaluate_every_kimg)
                saving = evaluating or stopped or _passes(before, state.images_seen, config.checkpoint_every_kimg)
                divergence = self.guard.look(state.step, now=saving)
                if divergence is not None and self._goes_back(divergence, real, hooks):
                    return "went back"
                if main:
                    hooks.on_step(state.images_seen, self.budget.clock)
                if finished or _passes(before, state.images_seen, config.log_every_kimg):
                    self._log(metrics, real, hooks)
                if main and (finished or _passes(before, state.images_seen, config.samples_every_kimg)):
                    with self.budget.clock.paused():
                        self._write_samples(hooks)
                if saving:
                    self.save()
                if evaluating:
                    (stopped,) = self.agreement.any(stopped or not self._evaluates(metrics, hooks))
                if finished and not stopped and state.images_seen < self.budget.total_images:
                    self._notify_of_minutes(hooks)
        return "stopped" if stopped else "finished"

    def _notify_of_minutes(self, hooks: Hooks) -> None:
        """That time ended the run before its images."""
        reached = f"{self.state.images_seen:,} of {self.budget.total_images:,} images"
        budgets = " and ".join(self.budget.used_up())
        self._notify(hooks, f"the run ends at {reached}, with its minutes: to go on, raise {budgets}")

    def _goes_back(self, divergence: Divergence, real: Tensor, hooks: Hooks) -> bool:
        """Reports bad updates and does what the configuration says; whether the run went back to a checkpoint."""
        state, config = self.state, self.config
        if self.accelerator.is_main_process:
            record_divergence(divergence, state, config, self.run, real)
        where = divergence.describe(config)
        if not goes_back(divergence, state, config, self.run):
            self._notify(hooks, f"{where}: its update was skipped")
            return False
        rollbacks = state.rollbacks + 1
        self.accelerator.wait_for_everyone()
        checkpoint, _ = load_newest(self.run, state)
        state.rollbacks = rollbacks
        self._begin_to_count()
        self.agreement.forget()
        self.guard.reset()
        self._mean_of = None
        scale = config.rollback_rate**rollbacks
        self._notify(hooks, f"{where}: back at {checkpoint.name} with learning rates × {scale:g}")
        return True

    def save(self) -> None:
        """Writes a checkpoint from the main process; the others go on until they need its gradients."""
        if self.accelerator.is_main_process:
            self._update_w_mean()
            self.budget.store()
            save_checkpoint(self.run, self.state)
            self.prune()

    def _update_w_mean(self) -> None:
        """Once a step at most, for the sample grid, the checkpoint and the evaluation: it takes as long as a save."""
        if self._mean_of != self.state.step:
            self.state.generator_ema.update_w_mean()
            self._mean_of = self.state.step

    def prune(self) -> None:
        """Removes what `keep_checkpoints` does not keep."""
        newest = checkpoint_name(self.state.images_seen)
        prune_checkpoints(self.run, self.config.keep_checkpoints, newest)

    def _notify(self, hooks: Hooks, line: str) -> None:
        if self.accelerator.is_main_process:
            hooks.on_notice(line)

    def _take_step(self, real: Tensor, labels: Tensor | None, randomness: StepRandomness, hooks: Hooks) -> bool:
        """A step; whether any process was asked to stop. Notes the share of the run's minutes that is spent."""
        state = self.state
        if self.agreement.alone:
            state.statistics.add(self.step(real, labels, randomness))
            asked = hooks.should_stop()
            state.time_spent = self.budget.time_spent()
            return asked
        # The mean is the main process's: the others' clocks run on while it evaluates.
        share = self.budget.time_spent() * self.accelerator.num_processes if self.accelerator.is_main_process else 0.0
        told = self.agreement.told(time_spent=share, asked_to_stop=hooks.should_stop())
        parts = self.step(real, labels, randomness, told)
        time_spent, asked = self.agreement.heard(parts, *told, look=self.guard.looks(state.step))
        state.time_spent = max(state.time_spent, time_spent)
        state.statistics.add(parts)
        return asked > 0

    def _compile_if_long(self, hooks: Hooks) -> None:
        self.budget.update_remaining()
        self._steps_to_judge -= 1
        if self._steps_to_judge != 0:
            return
        (long,) = self.agreement.any(self.budget.remaining.seconds > WORTH_COMPILING_SECONDS)
        if long:
            self._notify(hooks, "more than an hour is left: compiling the losses, training waits for some minutes")
            self.step.compile()

    def _begin_to_count(self) -> None:
        self.budget.begin()
        self._steps_to_judge = STEPS_TO_JUDGE

    def _adam(self, module: nn.Module) -> torch.optim.Adam:
        parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        learning_rate = self.config.learning_rate
        betas = (self.config.adam_beta1, self.config.adam_beta2)
        return torch.optim.Adam(parameters, lr=learning_rate, betas=betas, eps=1e-8, fused=True)

    def _to_device(
        self, images: np.ndarray, labels: np.ndarray | None, randomness: StepRandomness
    ) -> tuple[Tensor, Tensor | None]:
        """uint8 images to float32 in [-1, 1] on the device, flipped where the run says so; latents as they are."""
        real = self._copied(images).float()
        real = real / 127.5 - 1 if images.dtype == np.uint8 else real
        if self.config.horizontal_flip:
            flip = randomness.uniform("horizontal flip", len(real)) < 0.5
            real = torch.where(flip.view(-1, 1, 1, 1), real.flip(3), real)
        if self.model.num_classes == 0 or labels is None:
            return real, None
        return real, self._copied(labels).long()

    def _log(self, metrics: MetricsFile | None, real: Tensor, hooks: Hooks) -> None:
        state = self.state
        values = state.statistics.collect()
        if metrics is None:
            return
        record = {"images": state.images_seen, "step": state.step, **values}
        if self.config.instruments:
            record |= measure_discriminator(state.discriminator, real)
        record |= self.budget.clock.lap(state.images_seen)
        metrics.append(record)
        shown = {k: v for k, v in record.items() if k not in ("images", "step")}
        self._tell_trackers(lambda tracker: tracker.log(shown, step=state.images_seen), hooks)
        hooks.on_log(record)

    def _misses_evaluation(self, hooks: Hooks, finished: bool) -> bool:
        """Whether the run ended before the evaluation of the checkpoint that it goes on from."""
        images = self.state.images_seen
        due = finished or _passes(images - self.config.batch_size, images, hooks.evaluate_every_kimg)
        records = read_metrics(self.run / "metrics.jsonl")
        return images > 0 and due and not any(r["images"] == images and is_evaluation(r) for r in records)

    def _evaluates(self, metrics: MetricsFile | None, hooks: Hooks) -> bool:
        """Measures the averaged generator on the main process; False if the run was told to stop meanwhile."""
        if metrics is None or hooks.evaluate is None:
            return True

        def look(*_: object) -> None:
            if hooks.should_stop():
                raise _Stopped

        generator = self.state.generator_ema
        # Its parts too: a path length calls the mapping and the synthesis, not the whole.
        handles = [part.register_forward_pre_hook(look) for part in (generator, *generator.children())]
        try:
            with self.budget.clock.paused():
                self._evaluate(metrics, hooks.evaluate, hooks)
        except _Stopped:
            return False
        finally:
            for handle in handles:
                handle.remove()
        return True

    def _evaluate(self, metrics: MetricsFile, evaluate: Callable[[Generator], Evaluation], hooks: Hooks) -> None:
        """Measures, and remembers the newest checkpoint if it is the best."""
        state = self.state
        self._update_w_mean()
        self._notify(hooks, f"evaluating at {state.images_seen:,} images: training waits")
        result = evaluate(state.generator_ema)
        scores = {f"{EVALUATION}{name}": value for name, value in result.metrics.items()}
        best = remember_best(self.run, state.images_seen, result.name, result.score)
        place = "the best so far" if best else "not the best"
        self._notify(hooks, f"evaluated at {state.images_seen:,} images: {result.name} {result.score:.4g}, {place}")
        self.prune()
        metrics.append({"images": state.images_seen, "step": state.step, **scores})  # last: then it is done
        self._tell_trackers(lambda tracker: tracker.log(scores, step=state.images_seen), hooks)

    def _tell_trackers(self, tell: Callable[[GeneralTracker], None], hooks: Hooks) -> None:
        """One that fails is told nothing more: no service ends a run, and metrics.jsonl has all of it."""
        trackers = self.accelerator.trackers
        for tracker in [*trackers]:
            try:
                tell(tracker)
            except Exception as error:  # whatever its library raises
                trackers.remove(tracker)
                line = one_line(f"{type(error).__name__}: {error}", 200)
                self._notify(hooks, f"the tracker {tracker.name} failed and is told nothing more: {line}")

    def _write_samples(self, hooks: Hooks) -> None:
        self._update_w_mean()
        count, columns = self.state.generator_ema.grid(self.config.sample_count)
        images = self.state.generator_ema.sample(count, seed=self.config.seed)
        path = self.run / "samples" / f"{checkpoint_name(self.state.images_seen)}.png"
        grid = image_grid(images, columns, enlargement(self.model.image_size))
        save_image(grid, path)
        self._tell_trackers(lambda tracker: tell_images(tracker, grid, self.state.images_seen), hooks)
        hooks.on_samples(path)


def _passes(before: int, after: int, every_kimg: float) -> bool:
    """Whether the count went over a multiple of `every_kimg` thousand images."""
    every = every_kimg * 1000
    return after // every > before // every  # an infinite interval is never passed
