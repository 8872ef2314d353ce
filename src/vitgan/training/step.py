"""One step of training: an update of D, then one of G.

Each update adds up the gradients of its micro-batches, averages them over processes, checks that they are finite, and
applies them with Adam. A micro-batch has the images and draws that a process of its own would have.
"""

from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer

from vitgan.layers.spectral import update_spectral_norms
from vitgan.models.discriminator import Discriminator
from vitgan.models.generator import Generator
from vitgan.training.compiler import compiled, leave_out_frozen
from vitgan.training.config import TrainingConfig
from vitgan.training.ema import average_decay, update_average
from vitgan.training.guard import Guard, copy_buffers, restore_buffers_where
from vitgan.training.objective import Batch, Parts
from vitgan.training.randomness import StepRandomness
from vitgan.training.state import TrainingState

Loss = Callable[[Generator, Discriminator, Batch], tuple[Tensor, Parts]]
"""`Objective.discriminator_loss` or `generator_loss`."""


class GanStep:
    """Runs steps on a training state."""

    def __init__(
        self,
        state: TrainingState,
        config: TrainingConfig,
        accelerator: Accelerator,
        guard: Guard,
        cuda_graphs: bool = False,
    ) -> None:
        self.state, self.config = state, config
        self.accelerator, self.guard, self.cuda_graphs = accelerator, guard, cuda_graphs
        self.discriminator_loss: Loss = state.objective.discriminator_loss
        self.generator_loss: Loss = state.objective.generator_loss
        self.is_compiled = False
        if config.compile == "always":
            self.compile()

    def compile(self) -> None:
        """Has the losses compiled, in the next step."""
        self.is_compiled = True
        torch.compiler.reset()  # torch compiles a function a few times only: a program may train more often
        if self.accelerator.device.type == "cpu":
            leave_out_frozen(self.state.discriminator)
        self.discriminator_loss = compiled(self.discriminator_loss, self.cuda_graphs)
        self.generator_loss = compiled(self.generator_loss, self.cuda_graphs)

    def __call__(
        self, real: Tensor, labels: Tensor | None, randomness: StepRandomness, said: Parts | None = None
    ) -> Parts:
        """One update of D, then one of G.

        Args:
            real: This process's share of the batch (b, C, H, W), float32 in [-1, 1].
            labels: (b,) int64 for a conditional model.
            randomness: The draws of this step.
            said: Scalars on the device, to be averaged over processes with D's gradients.

        Returns:
            Losses, logits, gradient norms and what was said, scalars on the device.
        """
        state = self.state
        batch = state.objective.batch(real, labels, randomness, state.step, state.images_seen)
        self._set_learning_rates()
        if self.cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()  # what graphs return lives until the next mark

        update_spectral_norms(state.discriminator)
        for group in state.discriminator_optimizer.param_groups:
            for parameter in group["params"]:  # all of D but what `freeze_d` keeps
                parameter.requires_grad_(True)
        parts, norm = self._update(
            state.discriminator, state.discriminator_optimizer, self.discriminator_loss, batch, said
        )
        parts |= {"gradient_norm/discriminator": norm, "gradient_norm/discriminator_max": norm}

        state.discriminator.requires_grad_(False)
        of_generator, norm = self._update(state.generator, state.generator_optimizer, self.generator_loss, batch)
        parts |= of_generator | {"gradient_norm/generator": norm, "gradient_norm/generator_max": norm}

        self.guard.end_of_step(state.step, parts)
        state.step += 1
        state.images_seen += self.config.batch_size
        decay = average_decay(
            self.config.batch_size, state.images_seen, self.config.ema_half_life_images, self.config.ema_warmup
        )
        update_average(state.generator_ema, state.generator, decay)
        if self.cuda_graphs:  # copies outlive the next mark
            return dict(zip(parts, torch.stack([*parts.values()]).unbind(), strict=True))
        return parts

    def _update(
        self, module: nn.Module, optimizer: Optimizer, loss: Loss, batch: Batch, said: Parts | None = None
    ) -> tuple[Parts, Tensor]:
        """Gradients, average over processes, verdict, clipping, Adam; returns the loss's parts and the norm before clipping.

        A bad update leaves weights and running means as they were.
        """
        averages = copy_buffers(self.state.objective)
        parts, suspicion = self._gradients(loss, batch)
        gradients = [p.grad for p in module.parameters() if p.grad is not None]
        parts, suspicion = self._average_over_processes(gradients, parts | (said or {}), suspicion)
        norm = torch.nn.utils.get_total_norm(gradients)
        bad = self.guard.verdict(norm, suspicion)
        if self.config.gradient_clip is not None:
            torch.nn.utils.clip_grads_with_norm_(module.parameters(), self.config.gradient_clip, norm)
        optimizer.found_inf = bad  # type: ignore[attr-defined]  # fused Adam then leaves everything as it is
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        self.state.objective.follow_sureness(parts, self.config.batch_size)
        restore_buffers_where(bad, self.state.objective, averages)
        return parts, norm

    def _gradients(self, loss: Loss, batch: Batch) -> tuple[Parts, Tensor]:
        """Adds the gradients of every micro-batch; means of what each said, and the guard's suspicion."""
        state = self.state
        size = len(batch.real)
        count = max(1, size // (self.config.micro_batch_size or size))
        seen: list[Parts] = []
        suspicion = batch.real.new_zeros(())
        for index in range(count):
            with self.accelerator.autocast():
                value, parts = loss(state.generator, state.discriminator, batch.share(index, count))
            (value / count).backward()
            suspicion = torch.maximum(suspicion, self.guard.suspicion(value, parts))
            seen.append(parts)
        if count == 1:
            return seen[0], suspicion
        return {name: torch.stack([parts[name] for parts in seen]).mean() for name in seen[0]}, suspicion

    def _average_over_processes(self, gradients: list[Tensor], parts: Parts, suspicion: Tensor) -> tuple[Parts, Tensor]:
        """Averages the gradients in place; returns the means of the parts and of the suspicion ()."""
        if self.accelerator.num_processes == 1:
            return parts, suspicion
        # One flat tensor, not DistributedDataParallel: that allows one forward pass per backward pass, and a GAN's
        # discriminator has several. What the log and the guard need travels with it.
        said = torch.stack([value.to(gradients[0].dtype) for value in (*parts.values(), suspicion)])
        flat = self.accelerator.reduce(torch.cat([*(g.flatten() for g in gradients), said]), "mean")
        assert isinstance(flat, Tensor)
        *averages, said = flat.split([*(g.numel() for g in gradients), len(said)])
        for gradient, average in zip(gradients, averages, strict=True):
            gradient.copy_(average.view_as(gradient))
        *means, suspicion = said.unbind()
        return dict(zip(parts, means, strict=True)), suspicion

    def _set_learning_rates(self) -> None:
        config = self.config
        warmup = min(1.0, (self.state.images_seen + config.batch_size) / max(config.lr_warmup_images, 1))
        spent = max(self.state.images_seen / (config.total_kimg * 1000), self.state.time_spent)
        left = max(1 - spent, 0.0)
        decay = min(1.0, left / config.lr_decay) if config.lr_decay else 1.0
        rates = (config.learning_rate, config.discriminator_learning_rate or config.learning_rate)
        optimizers = (self.state.generator_optimizer, self.state.discriminator_optimizer)
        for rate, optimizer in zip(rates, optimizers, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * warmup * decay * config.rollback_rate**self.state.rollbacks
