"""What a step would do on a GPU, seen on torch's `meta` device: no tensor from the CPU, and nobody waits for a number."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tiny import few_blocks, tiny_run
from vitgan.config import RunConfig
from vitgan.layers.attention import FUSED_FROM_TOKENS
from vitgan.presets import aligned, both_vits, preset, replaced, with_model
from vitgan.training.compiler import compiled
from vitgan.training.loop import Trainer
from vitgan.training.objective import ObjectiveConfig
from vitgan.training.randomness import StepRandomness

BATCH = 8
META = torch.device("meta")
EVERYTHING = {"r1_gamma": 1, "r2_gamma": 1, "wgan_gp": 1, "lecam": 1, "path_length": 1, "style_mixing": 0.5}


def with_levels(base: RunConfig, levels: str) -> RunConfig:
    generator = replaced(base.model.generator, num_levels=3, levels=levels)
    terms = {"loss": "relativistic"} | ({"level_consistency": 1} if levels == "scaled" else {})
    return with_model(base, generator, objective=ObjectiveConfig(**EVERYTHING, **terms))  # pyright: ignore[reportArgumentType]


CONFIGS: dict[str, Callable[[], RunConfig]] = {
    name: partial(preset, name)
    for name in (
        "quickstart",
        "cifar10-tiny",
        "cifar10-tiny-projected",
        "cifar10",
        "cifar10-modern",
        "cifar10-gat",
        "cifar10-vanilla",
        "cifar10-stylegan2d",
        "cifar10-stylegan2",
        "celeba64",
        "imagenet256-gat-s",
    )
}
CONFIGS |= {
    "rotary": lambda: both_vits(positions="sincos", rotary=True)(preset("cifar10-tiny-modern")),
    "aligned": lambda: aligned(preset("cifar10-tiny-modern")),
    "summed": lambda: with_levels(preset("cifar10-tiny"), "summed"),
    "scaled": lambda: with_levels(preset("cifar10-tiny"), "scaled"),
    "every-term": lambda: with_model(preset("cifar10-tiny"), objective=ObjectiveConfig(**EVERYTHING)),  # pyright: ignore[reportArgumentType]
    "every-term-stylegan2": lambda: with_model(
        preset("cifar10-stylegan2"),
        objective=ObjectiveConfig(penalty="finite_difference", **EVERYTHING),  # pyright: ignore[reportArgumentType]
    ),
}


class FromHost(TorchFunctionMode):
    """Notes calls that make a tensor of Python numbers on the device: each is a copy that waits for the device."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.faults = faults

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        makers = (torch.tensor, torch.as_tensor, torch.from_numpy, torch.scalar_tensor, Tensor.new_tensor)
        if func in makers and result.device == META:
            self.faults.append(f"{func.__name__} on the device")
        return result


class Hygiene(TorchDispatchMode):
    """Notes operators on tensors of two devices, copies between them, and those whose answer the host waits for."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "equal", "is_nonzero", "repeat_interleave")

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self.faults, self.operators = faults, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, given = func.overloadpacket.__name__, _devices((args, kwargs))
        if len(given) > 1 or name in self.WAITING:
            self.faults.append(f"{func} on {sorted(given)}")
        result = func(*args, **(kwargs or {}))
        if "cpu" in given | _devices(result) and name != "lift_fresh":  # which copies nothing
            self.faults.append(f"{func} on the CPU")
        self.operators += 1
        return result


def _devices(tree: Any) -> set[str]:
    """Of all tensors but Python's numbers, which an operator takes as scalars of the CPU."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
    return {tensor.device.type for tensor in tensors if tensor.ndim or tensor.device == META}


@pytest.fixture
def trainer_on_meta(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[RunConfig], Trainer]:
    """Builds trainers whose device has shapes and no numbers."""
    import vitgan.training.loop as loop

    monkeypatch.setitem(FUSED_FROM_TOKENS, "meta", FUSED_FROM_TOKENS["cuda"])
    for name in ("build_generator", "build_discriminator"):
        monkeypatch.setattr(loop, name, partial(getattr(loop, name), device="meta"))
    optimizer = sys.modules[torch.optim.Optimizer.__module__]
    monkeypatch.setattr(optimizer, "_get_fused_kernels_supported_devices", lambda: ["meta"])

    def build(config: RunConfig) -> Trainer:
        AcceleratorState._reset_state()
        accelerator = Accelerator(cpu=True, mixed_precision="no")
        accelerator.state.device = META  # pyright: ignore[reportAttributeAccessIssue]
        model = few_blocks(config.model)
        model = replaced(model, num_classes=config.model.num_classes or 10) if model.conditional else model
        training = replaced(config.training, batch_size=BATCH, trackers=(), horizontal_flip=True)
        return Trainer(model, config.objective, config.augment, training, accelerator, tmp_path)

    return build


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_stays_on_its_device_and_waits_for_nothing(name: str, trainer_on_meta) -> None:
    """Both losses, backward, optimisers, average, spectral update, guard and log, with and without the lazy terms."""
    trainer = trainer_on_meta(CONFIGS[name]())
    model, faults = trainer.model, []
    real = torch.empty(BATCH, model.channels, model.resolution, model.resolution, device=META)
    labels = torch.zeros(BATCH, dtype=torch.long, device=META) if model.num_classes else None
    with FromHost(faults), Hygiene(faults) as seen:
        for step in range(2):
            parts = trainer.step(real, labels, StepRandomness(0, step, device=META))
            trainer.state.statistics.add(parts)
            assert trainer.guard.look(trainer.state.step) is None  # not yet: looking waits
    assert faults == []
    assert seen.operators > 500


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch._dynamo looks at it
@pytest.mark.parametrize("name", ["cifar10", "cifar10-tiny-projected"])
def test_a_compiled_loss_is_one_graph_for_all_steps(name: str, trainer_on_meta, monkeypatch) -> None:
    """Traced as torch.compile does it, but not turned into code; a break in the graph is an error."""
    monkeypatch.setattr("vitgan.training.step.compiled", lambda loss, _: compiled(loss, backend="eager"))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    config = CONFIGS[name]()
    trainer = trainer_on_meta(replaced(config, training=replaced(config.training, compile="always")))
    model = trainer.model
    real = torch.empty(BATCH, model.channels, model.resolution, model.resolution, device=META)
    labels = torch.zeros(BATCH, dtype=torch.long, device=META) if model.num_classes else None
    for step in range(3):
        trainer.step(real, labels, StepRandomness(0, step, device=META))
    assert not torch._dynamo.utils.counters["graph_break"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2


def test_a_batch_reaches_the_device_in_one_copy_for_images_and_one_for_labels(trainer_on_meta) -> None:
    trainer = trainer_on_meta(replaced(tiny_run("unused"), model=replaced(tiny_run("unused").model, num_classes=10)))
    faults: list[str] = []
    with Hygiene(faults):
        real, labels = trainer._to_device(
            np.zeros((BATCH, 3, 8, 8), np.uint8), np.zeros(BATCH, np.int64), StepRandomness(0, 0, device=META)
        )
    assert real.device == labels.device == META
    assert [fault.split(".")[1] for fault in faults] == ["_to_copy", "_to_copy"]


@pytest.mark.parametrize(
    "fault",
    [
        lambda x: x + torch.zeros(3),
        lambda x: torch.zeros(3).to(META),
        lambda x: torch.tensor([1.0], device=META),
        lambda x: x.new_tensor(1.0),
        lambda x: x.sum().item(),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.cpu(),
        lambda x: bool(x.sum() > 0),
        lambda x: torch.randn(3).to(META),
    ],
)
def test_what_is_looked_for_is_found(fault: Callable[[Tensor], object]) -> None:
    faults: list[str] = []
    x = torch.empty(3, device=META)
    with FromHost(faults), Hygiene(faults):
        try:
            fault(x)
        except (RuntimeError, NotImplementedError):  # meta has no numbers to give
            faults.append("refused")
    assert faults


def test_what_is_allowed_is_not_found() -> None:
    faults: list[str] = []
    x = torch.empty(3, device=META)
    with FromHost(faults), Hygiene(faults):
        x = torch.where(x > 0, x * 2.0 + torch.arange(3, device=META), -1.0)
        x.add_(x.new_full((), 0.5)).clamp_(0, 1)
    assert faults == []
