"""Where a training step's time goes: by part of the step, and by kind of operator."""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

import tyro
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.players import configuration, precisions, steps, trainer_of
from benchmarks.table import Table, say
from vitgan.models.discriminator import Discriminator, Judgement
from vitgan.models.vit_generator import ViTGenerator
from vitgan.training.loop import Trainer

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::_addmm_activation", "mkldnn_linear", "aten::linear"),
    "batched products (attention, augmentation)": ("aten::bmm", "aten::baddbmm", "scaled_dot_product", "flash"),
    "softmax": ("softmax",),
    "convolutions": ("convolution", "conv2d", "mkldnn_conv"),
    "norms": ("layer_norm", "rms_norm"),
    "GELU": ("gelu",),
    "copies, casts, layouts": ("aten::copy_", "_to_copy", "aten::cat", "aten::contiguous", "aten::clone", "stack"),
    "spectral norms": ("aten::mv", "aten::addmv", "aten::dot", "linalg_vector_norm"),
    "optimiser and average": ("adam", "foreach"),
    "sums and reductions": ("aten::sum", "aten::mean", "aten::var", "aten::norm"),
}
"""Pieces of operator names, the first match counts."""


class Marks:
    """Notes when a step comes to the ends of its parts: hooks on both players and on their optimisers."""

    def __init__(self, trainer: Trainer) -> None:
        state = trainer.state
        assert isinstance(state.generator, ViTGenerator)
        self.seen: list[tuple[str, float]] = []
        state.generator.mapping_network.register_forward_pre_hook(lambda *_: self.mark("between"))
        state.generator.pixel_mapping.register_forward_hook(lambda *_: self.mark("generator forward"))
        state.discriminator.register_forward_pre_hook(lambda *_: self.mark("between"))
        state.discriminator.register_forward_hook(lambda *_: self.mark("discriminator forward"))
        self.watch(state.discriminator)
        for optimizer in (state.discriminator_optimizer, state.generator_optimizer):
            optimizer.register_step_pre_hook(lambda *_: self.mark("backward"))
            optimizer.register_step_post_hook(lambda *_: self.mark("Adam"))

    def watch(self, discriminator: Discriminator) -> None:
        """Marks both ends of `judge` too: a step may ask it in place of `forward`."""
        judge = discriminator.judge

        def marked(images: Tensor, labels: Tensor | None = None, num_sets: int = 1) -> Judgement:
            self.mark("between")
            judgement = judge(images, labels, num_sets)
            self.mark("discriminator forward")
            return judgement

        discriminator.judge = marked

    def mark(self, part: str) -> None:
        """The part that ends here."""
        self.seen.append((part, time.perf_counter()))

    def parts(self, start: float, end: float) -> dict[str, float]:
        """Seconds by part of the step that took from `start` to `end`; clears the marks."""
        seconds: dict[str, float] = defaultdict(float)
        names = list(self._named())
        for name, previous, (_, now) in zip(names, [start, *(t for _, t in self.seen)], self.seen, strict=False):
            seconds[name] += now - previous
        seconds["average, bookkeeping"] += end - self.seen[-1][1]
        self.seen.clear()
        return seconds

    def _named(self) -> Iterator[str]:
        """What each mark ends, by the update that it is in and by what came before it."""
        between = {"start": "spectral norms, latents", "generator forward": "DiffAugment", "Adam": "latents"}
        player, previous = "D", "start"
        for part, _ in self.seen:
            yield f"{player} update: {between.get(previous, 'between') if part == 'between' else part}"
            player = "G" if part == "Adam" else player
            previous = part


def measure(preset: str = "cifar10", batch: int = 16, rounds: int = 3) -> list[Table]:
    """Times the parts of whole steps, and profiles one more.

    Args:
        preset: Whose step; its generator must be a ViT.
        batch: Images per step.
        rounds: Steps that the parts are timed in.
    """
    precision = precisions()[-1]
    say(f"parts of a step: {preset}, batch {batch}, {precision}")
    trainer = trainer_of(configuration(preset, batch, precision))
    step = steps(trainer)
    step()
    title = f"of a step ({preset}, batch {batch}, {precision})"
    return [_by_operator(step, title), _by_part(trainer, step, rounds, title)]


def _by_part(trainer: Trainer, step: Callable[[], object], rounds: int, title: str) -> Table:
    marks, found = Marks(trainer), []
    for _ in range(rounds):
        start = time.perf_counter()
        step()
        found.append(marks.parts(start, time.perf_counter()))
    seconds = {part: statistics.median(one[part] for one in found) for part in found[0]}
    total = sum(seconds.values())
    table = Table(f"Parts {title}", ("part", "milliseconds", "share"))
    for part, spent in seconds.items():
        table.add(part, f"{spent * 1000:.1f}", f"{spent / total:.1%}")
    table.remarks.append("A backward is everything from the logits to Adam: loss, gradients, their norm, the guard.")
    return table


def _by_operator(step: Callable[[], object], title: str) -> Table:
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    seconds: dict[str, float] = defaultdict(float)
    rest: dict[str, float] = {}
    for event in profiler.key_averages():
        kind = kind_of(event.key)
        seconds[kind] += event.self_cpu_time_total / 1e6
        if kind == "everything else":
            rest[event.key] = event.self_cpu_time_total / 1e6
    total = sum(seconds.values())
    table = Table(f"Operators {title}", ("kind", "milliseconds", "share"))
    for kind, spent in sorted(seconds.items(), key=lambda item: -item[1]):
        table.add(kind, f"{spent * 1000:.1f}", f"{spent / total:.1%}")
    largest = sorted(rest.items(), key=lambda item: -item[1])[:8]
    named = ", ".join(f"{name.removeprefix('aten::')} {spent / total:.1%}" for name, spent in largest)
    table.remarks.append(f"Largest of everything else: {named}.")
    return table


def kind_of(operator: str) -> str:
    """The row that an operator of torch's profiler belongs to."""
    name = operator.lower()
    return next((kind for kind, parts in KINDS.items() if any(p in name for p in parts)), "everything else")


if __name__ == "__main__":
    print(*tyro.cli(measure), sep="\n")
