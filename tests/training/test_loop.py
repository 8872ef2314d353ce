"""The trainer's own arithmetic: gradients, learning rate, flips, what is logged, precision."""

import os
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import GeneralTracker

import vitgan
from refusals import refused
from tiny import tiny_run
from vitgan.config import RunConfig
from vitgan.data.store import ImageStore
from vitgan.data.stream import ImageStream
from vitgan.devices import choose_precision
from vitgan.training import loop
from vitgan.training.hooks import Hooks
from vitgan.training.log import MetricsFile, read_metrics
from vitgan.training.loop import Trainer
from vitgan.training.randomness import StepRandomness
from vitgan.training.statistics import Statistics


def trainer(config: RunConfig, folder: Path, precision: str = "no") -> Trainer:
    AcceleratorState._reset_state()
    accelerator = Accelerator(cpu=True, mixed_precision=precision)
    return Trainer(config.model, config.objective, config.augment, config.training, accelerator, folder)


def images(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_step_moves_both_players_and_reports_finite_figures(tmp_path: Path) -> None:
    one = trainer(tiny_run("unused"), tmp_path)
    average = one.state.generator_ema
    assert not average.training
    assert not any(p.requires_grad for p in average.parameters())
    before = {n: p.clone() for m in (one.state.generator, one.state.discriminator) for n, p in m.named_parameters()}
    parts = one.step(images(), None, StepRandomness(0, 0))
    after = {n: p for m in (one.state.generator, one.state.discriminator) for n, p in m.named_parameters()}
    assert not [n for n in before if before[n].equal(after[n])]
    expected = {"loss/adversarial", "loss/bcr_real", "loss/bcr_fake", "loss/generator", "logits/real", "logits/fake"}
    assert expected <= parts.keys()
    assert all(torch.isfinite(value) for value in parts.values())
    assert (one.state.step, one.state.images_seen) == (1, 4)


def test_reported_gradient_norm_is_that_of_the_loss(tmp_path: Path) -> None:
    one, two = trainer(tiny_run("unused"), tmp_path), trainer(tiny_run("unused"), tmp_path)
    parts = one.step(images(), None, StepRandomness(0, 0))
    state = two.state
    from vitgan.layers.spectral import update_spectral_norms

    update_spectral_norms(state.discriminator)
    batch = state.objective.batch(images(), None, StepRandomness(0, 0), step=0, images_seen=0)
    loss, _ = two.state.objective.discriminator_loss(state.generator, state.discriminator, batch)
    gradients = torch.autograd.grad(loss, list(state.discriminator.parameters()))
    norm = torch.cat([g.double().flatten() for g in gradients]).norm()
    assert parts["gradient_norm/discriminator"].item() == pytest.approx(norm.item(), rel=1e-5)


def test_learning_rate_warms_up_linearly_and_differs_for_the_discriminator(tmp_path: Path) -> None:
    config = tiny_run("unused", learning_rate=0.1, discriminator_learning_rate=0.01, lr_warmup_images=16)
    one = trainer(config, tmp_path)
    rates = []
    for step in range(5):
        one.step(images(), None, StepRandomness(0, step))
        optimizers = (one.state.generator_optimizer, one.state.discriminator_optimizer)
        rates.append(tuple(o.param_groups[0]["lr"] for o in optimizers))
    factors = [0.25, 0.5, 0.75, 1.0, 1.0]
    assert np.allclose(rates, [(0.1 * f, 0.01 * f) for f in factors])


def test_learning_rates_fall_to_nothing_over_the_end_of_the_run(tmp_path: Path) -> None:
    one = trainer(tiny_run("unused", learning_rate=0.01, lr_decay=0.5, total_kimg=0.04), tmp_path)
    rates = []
    for step in range(10):
        one.step(images(), None, StepRandomness(0, step))
        rates.append(one.state.generator_optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01] * 6 + [0.008, 0.006, 0.004, 0.002])


def test_learning_rates_follow_whichever_budget_is_nearer_its_end(tmp_path: Path) -> None:
    one = trainer(tiny_run("unused", learning_rate=0.01, lr_decay=0.5, total_kimg=0.04), tmp_path)
    rates = []
    for step, spent in enumerate((0.0, 0.5, 0.75, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9, 1.0)):
        one.state.time_spent = spent
        one.step(images(), None, StepRandomness(0, step))
        rates.append(one.state.discriminator_optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.01, 0.01, 0.005, 0.01, 0.01, 0.01, 0.008, 0.006, 0.002, 0], abs=1e-12)


def test_bf16_keeps_master_weights_and_follows_float32(tmp_path: Path) -> None:
    exact, low = trainer(tiny_run("unused"), tmp_path), trainer(tiny_run("unused"), tmp_path, "bf16")
    a = exact.step(images(), None, StepRandomness(0, 0))
    b = low.step(images(), None, StepRandomness(0, 0))
    assert all(p.dtype == torch.float32 for p in low.state.generator.parameters())
    for name in ("loss/discriminator", "loss/generator", "logits/real"):
        assert b[name].item() == pytest.approx(a[name].item(), rel=0.05, abs=0.05)


def test_horizontal_flip_flips_some_images_whole(tmp_path: Path) -> None:
    one = trainer(tiny_run("unused", horizontal_flip=True), tmp_path)
    array = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    real, labels = one._to_device(array, None, StepRandomness(0, 0))
    plain = torch.from_numpy(array).float() / 127.5 - 1
    same = (real == plain).flatten(1).all(1)
    flipped = (real == plain.flip(3)).flatten(1).all(1)
    assert labels is None
    assert bool((same ^ flipped).all())
    assert 16 < same.sum() < 48
    assert real.min() >= -1
    assert real.max() <= 1


def test_statistics_are_means_and_maxima() -> None:
    statistics = Statistics()
    for value in (1.0, 2.0, 6.0):
        statistics.add({"a": torch.tensor(value), "a_max": torch.tensor(value)})
    statistics.add({"b": torch.tensor(5.0)})
    assert statistics.collect() == {"a": 3.0, "a_max": 6.0, "b": 5.0}
    assert statistics.collect() == {}


def test_metrics_file_keeps_what_was_and_drops_what_will_be_redone(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    file = MetricsFile(path, 0)
    for images_seen in (4, 8, 12):
        file.append({"images": images_seen})
    MetricsFile(path, 8)
    assert read_metrics(path) == [{"images": 4}, {"images": 8}]


class Broken(GeneralTracker):
    """A service that was there at the start."""

    name = "broken"
    requires_logging_directory = False
    tracker = None

    def __init__(self) -> None:
        self.told = 0
        super().__init__()

    def store_init_configuration(self, values: dict) -> None: ...

    def log(self, values: dict, step: int | None = None, **options: object) -> None:
        self.told += 1
        raise BrokenPipeError("nobody listens")


def test_tracker_that_fails_ends_no_run(tmp_path: Path) -> None:
    one, broken, notices = trainer(tiny_run("unused", total_kimg=0.012), tmp_path), Broken(), []
    one.accelerator.trackers = [broken]
    (tmp_path / "samples").mkdir()
    batch = np.zeros((4, 3, 8, 8), np.uint8)

    class Zeros:
        def batches(self, images_seen: int) -> Generator[tuple[np.ndarray, None]]:
            while True:
                yield batch, None

    assert one.fit(Zeros(), Hooks(on_notice=notices.append))
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 3
    assert broken.told == 1
    assert len(notices) == 1
    assert "nobody listens" in notices[0]


def test_precision_is_chosen_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("float32", cpu=True) == "no"
    assert choose_precision("bf16", cpu=True) == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False})
    assert choose_precision("auto", cpu=True) == "no"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    assert choose_precision("auto", cpu=True) == "bf16"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    with refused("float32", parameter="training.precision"):
        choose_precision("bf16", cpu=False)


def compiling_with(compiler: str):
    import torch._inductor.config

    return torch._inductor.config.patch({"cpp.cxx": (compiler,)})


def test_nothing_is_begun_where_no_compiler_is(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "kept"))
    with compiling_with("/nowhere/g++"), refused(parameter="training.compile"):
        vitgan.train(tiny_run(store, compile="always"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "kept")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler that does not find what it needs")
def test_nothing_is_begun_where_the_compiler_lacks_a_header(store: str, tmp_path: Path) -> None:
    """A compiler that says its version and refuses every source file."""
    lacking = tmp_path / "g++"
    lacking.write_text(f"""#!/bin/sh
case "$*" in *.cpp*) echo "main.cpp:3: fatal error: Python.h: No such file" >&2; exit 1;; esac
exec {shutil.which("g++")} "$@"
""")
    lacking.chmod(0o755)
    with compiling_with(str(lacking)), refused("Python.h", parameter="training.compile"):
        vitgan.train(tiny_run(store, compile="always"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("worth_seconds", "compiles"), [(0, 2), (1e6, 0)])
def test_auto_compiles_both_losses_once_if_much_is_left(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worth_seconds: float, compiles: int
) -> None:
    seen: list[int] = []

    def compiled(loss: Callable[..., object], cuda_graphs: bool) -> Callable[..., object]:
        seen.append(one.state.step)
        return loss

    monkeypatch.setattr(loop, "STEPS_TO_JUDGE", 3)
    monkeypatch.setattr(loop, "WORTH_COMPILING_SECONDS", worth_seconds)
    monkeypatch.setattr("vitgan.training.step.compiled", compiled)
    told: list[str] = []
    one = trainer(tiny_run(store, compile="auto"), tmp_path)
    assert one.fit(ImageStream(ImageStore.open(store), 4, 0), Hooks(on_notice=told.append))
    assert seen == [3] * compiles
    assert len(told) == bool(compiles)


def test_a_run_and_its_model_are_the_same_whatever_a_program_has_set(store: str, tmp_path: Path) -> None:
    def trained() -> dict[str, torch.Tensor]:
        return vitgan.load(vitgan.train(tiny_run(store, total_kimg=0.008), out=tmp_path)).state_dict()

    expected = trained()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"), torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
            found = trained()
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_other_processes_do_not_wait_for_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = trainer(tiny_run("unused"), tmp_path)
    other = SimpleNamespace(is_main_process=False)  # any collective call would fail: it has none
    monkeypatch.setattr(one, "accelerator", other)
    one.save()
    assert not (tmp_path / "checkpoints").exists()
