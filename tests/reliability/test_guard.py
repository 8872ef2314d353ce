"""The divergence guard: no bad update is applied, and the run stops, goes on, or goes back as it was told."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from safetensors.torch import load_file

import vitgan
from refusals import refused
from tiny import newest, tiny_run
from vitgan.config import RunConfig
from vitgan.errors import UserError
from vitgan.training import clock
from vitgan.training.checkpoint import CheckpointManifest, verify_checkpoint
from vitgan.training.config import TrainingConfig
from vitgan.training.guard import METRICS, MOST_ROLLBACKS, POLICY, Guard
from vitgan.training.hooks import Hooks
from vitgan.training.loop import Trainer
from vitgan.training.objective import Objective
from vitgan.training.randomness import StepRandomness
from vitgan.training.statistics import Statistics


def spoil(monkeypatch: pytest.MonkeyPatch, player: str, when: Callable[[int], bool], value: float = torch.nan) -> None:
    """Multiplies a player's loss by `value` at the steps for which `when` says so."""
    name = f"{player}_loss"
    sound = getattr(Objective, name)

    def loss(self, generator, discriminator, batch):
        total, parts = sound(self, generator, discriminator, batch)
        factor = value if when(int(batch.randomness.step)) else 1.0
        return total * factor, {name: part * factor for name, part in parts.items()}

    monkeypatch.setattr(Objective, name, loss)


def trainer(config: RunConfig, folder: Path) -> Trainer:
    AcceleratorState._reset_state()
    return Trainer(config.model, config.objective, config.augment, config.training, Accelerator(cpu=True), folder)


def weights(trainer: Trainer, player: str) -> dict[str, torch.Tensor]:
    module = getattr(trainer.state, player)
    moments = {k: v for k, v in trainer.state.optimizer_tensors().items() if k.startswith(player)}
    return {k: v.detach().clone() for k, v in (dict(module.named_parameters()) | moments).items()}


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize(("player", "other"), [("discriminator", "generator"), ("generator", "discriminator")])
def test_bad_update_leaves_everything_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, player: str, other: str, value: float
) -> None:
    spoil(monkeypatch, player, lambda step: step == 1, value)
    config = tiny_run("unused")
    config = config.model_copy(update={"objective": config.objective.model_copy(update={"lecam": 0.1})})
    one = trainer(config, tmp_path)
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    one.step(images, None, StepRandomness(0, 0))
    assert one.guard.look(1) is None
    before, others_before = weights(one, player), weights(one, other)
    one.step(images, None, StepRandomness(0, 1))
    assert all(value.equal(before[name]) for name, value in weights(one, player).items())
    assert not all(value.equal(others_before[name]) for name, value in weights(one, other).items())
    assert all(buffer.isfinite().all() for buffer in one.state.objective.buffers())
    found = one.guard.look(2)
    assert found is not None
    assert (found.step, found.steps) == (1, 1)
    assert f"loss/{player}" in found.describe(config.training)
    one.step(images, None, StepRandomness(0, 2))
    assert one.guard.look(3) is None
    assert not all(value.equal(before[name]) for name, value in weights(one, player).items())


def test_logits_past_the_bound_are_bad() -> None:
    guard = Guard(logit_bound=5.0, device=torch.device("cpu"))
    loss = torch.tensor(1.0)
    for real, fake, expected in [(4.9, -4.9, 0.0), (5.1, 0.0, 1.0), (0.0, -5.1, 1.0), (torch.nan, 0.0, 1.0)]:
        parts = {"logits/real": torch.tensor(real), "logits/fake": torch.tensor(fake)}
        assert guard.suspicion(loss, parts).item() == expected
    assert guard.verdict(torch.tensor(1.0), torch.tensor(0.5)).item() == 1.0  # one of two processes
    assert guard.verdict(torch.tensor(torch.inf), torch.tensor(0.0)).item() == 1.0
    assert guard.verdict(torch.tensor(1.0), torch.tensor(0.0)).item() == 0.0


def test_a_divergence_by_the_bound_names_the_bound_and_the_logit_alone() -> None:
    guard, training = Guard(logit_bound=5.0, device=torch.device("cpu")), TrainingConfig(logit_bound=5.0, seed=7)
    parts = {name: torch.tensor(1.0) for name in METRICS} | {"logits/fake": torch.tensor(-6.0)}
    guard.verdict(torch.tensor(1.0), guard.suspicion(torch.tensor(1.0), parts))
    guard.end_of_step(0, parts)
    found = guard.look(1)
    assert found is not None
    line = found.describe(training)
    assert all(words in line for words in ("logits/fake -6", "logit_bound 5", "seed 7"))
    assert "loss/" not in line
    assert "logits/real" not in line


def events(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


def test_stop_tells_the_batch_and_the_instruments(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "discriminator", lambda step: step == 3)
    with refused("loss/discriminator nan", parameter=POLICY):
        vitgan.train(tiny_run(store), tmp_path)
    run = tmp_path / "00000-store"
    (event,) = events(run)
    assert event["batch_seed"] == [0, 3]
    assert any(name.startswith("spectral_norm/") for name in event["instruments"])
    assert any(name.startswith("attention_entropy/") for name in event["instruments"])
    assert newest(run).name == "000000k008"
    with pytest.raises(UserError):  # the same again: and told once
        vitgan.train(tiny_run(store), resume=run)
    assert len(events(run)) == 1
    vitgan.train(tiny_run(store, on_divergence="skip"), resume=run)  # the way out that the message names
    assert newest(run).name == "000000k024"


def test_skip_goes_on_and_the_log_holds_no_nan(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "generator", lambda step: step in (1, 2))
    notices: list[str] = []
    config = tiny_run(store, on_divergence="skip", log_every_kimg=0.008)
    run = vitgan.train(config, tmp_path, hooks=Hooks(on_notice=notices.append))
    assert len(notices) == 2
    assert len(events(run)) == 2
    text = (run / "metrics.jsonl").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    for file in newest(run).glob("*.safetensors"):
        assert all(t.isfinite().all() for t in load_file(file).values())


def test_skipping_without_end_stops(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "discriminator", lambda step: step >= 1)
    monkeypatch.setattr("vitgan.training.guard.MOST_SKIPPED_IN_A_ROW", 5)
    with refused(parameter=POLICY):
        vitgan.train(tiny_run(store, on_divergence="skip", total_kimg=10, checkpoint_every_kimg=10), tmp_path)
    assert len(events(tmp_path / "00000-store")) == 5


def manifest(run: Path) -> CheckpointManifest:
    return verify_checkpoint(newest(run))


def test_rollback_lowers_the_rate_and_a_resume_keeps_it(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([True])
    spoil(monkeypatch, "discriminator", lambda step: step == 3 and next(times, False))
    notices: list[str] = []
    config = tiny_run(store, on_divergence="rollback")
    run = vitgan.train(config, tmp_path, hooks=Hooks(on_notice=notices.append))
    assert len(notices) == 1
    assert "000000k008" in notices[0]
    assert "0.5" in notices[0]
    assert manifest(run).rollbacks == 1
    assert [json.loads(line)["images"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [
        4, 8, 12, 16, 20, 24
    ]  # fmt: skip
    vitgan.train(tiny_run(store, on_divergence="rollback", total_kimg=0.028), resume=run)
    assert manifest(run).rollbacks == 1


def test_rollback_in_the_step_that_ends_the_minutes_goes_back_to_their_share(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now, process_time=lambda: now))

    def a_second_a_step() -> bool:
        nonlocal now
        now += 1
        return False

    times, notices = iter([True]), []
    spoil(monkeypatch, "discriminator", lambda step: step == 3 and next(times, False))
    config = tiny_run(store, on_divergence="rollback", total_kimg=1, max_minutes=4 / 60)
    run = vitgan.train(config, tmp_path, hooks=Hooks(on_notice=notices.append, should_stop=a_second_a_step))
    assert len(notices) == 2
    assert "000000k008" in notices[0]
    assert "training.max_minutes" in notices[1]
    assert manifest(run).images_seen == 16  # four steps in all, two of them twice
    assert manifest(run).wall_seconds == 4


def test_rollback_that_does_not_help_stops(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, "discriminator", lambda step: step == 3)
    with refused(parameter="training.learning_rate"):
        vitgan.train(tiny_run(store, on_divergence="rollback"), tmp_path)
    run = tmp_path / "00000-store"
    assert [event["rollbacks"] for event in events(run)] == list(range(MOST_ROLLBACKS + 1))


def test_a_learning_rate_beyond_all_bounds_is_noticed(store: str, tmp_path: Path) -> None:
    """Nothing is injected here: the weights of a run at this rate overflow by themselves."""
    with refused(parameter=POLICY):
        vitgan.train(tiny_run(store, learning_rate=1e18), tmp_path)


def test_statistics_leave_out_what_is_not_finite_and_survive_a_checkpoint() -> None:
    statistics, restored = Statistics(), Statistics()
    for value in (1.5, torch.nan, 0.1):
        statistics.add({"a": torch.tensor(value), "a_max": torch.tensor(value), "never": torch.tensor(torch.inf)})
    restored.restore(json.loads(json.dumps(statistics.sums())))
    for one in (statistics, restored):
        one.add({"a": torch.tensor(0.2), "a_max": torch.tensor(0.2), "never": torch.tensor(torch.nan)})
    figures = statistics.collect()
    assert figures == restored.collect()
    assert figures["a"] == pytest.approx(0.6)
    assert figures["a_max"] == 1.5
    assert "never" not in figures
