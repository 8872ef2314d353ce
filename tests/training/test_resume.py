"""A resumed run equals an uninterrupted one, bit for bit, and its log has no line twice."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

import vitgan
from refusals import refused
from tiny import newest, stop_after, tiny_run, write_images
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.presets import aligned, replaced, with_model
from vitgan.training import clock
from vitgan.training.checkpoint import checkpoints
from vitgan.training.hooks import Hooks


def records(run: Path) -> list[dict]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [
        {k: v for k, v in json.loads(line).items() if k not in ("images_per_second", "cpu_seconds")} for line in lines
    ]


def of_the_paper(config: RunConfig) -> RunConfig:
    return config


def with_first_order_penalty(config: RunConfig) -> RunConfig:
    objective = replaced(config.objective, loss="relativistic", r1_gamma=1.0, penalty="finite_difference")
    return with_model(config, objective=objective)


def on_frozen_features(config: RunConfig) -> RunConfig:
    generator = replaced(config.model.generator, latent_tokens=True, pixel_mapping="conv")
    discriminator = ProjectedDiscriminatorConfig(input_size=32, width=4, classifier=True)
    objective = replaced(config.objective, loss="hinge", energy=2.0, classification=1.0)
    config = with_model(config, generator, discriminator, objective)
    return replaced(config, model=replaced(config.model, conditional=True))


def with_an_idle_classifier(config: RunConfig) -> RunConfig:
    """As a preset with a classifier has it whose `objective.classification` is set to 0: no loss reaches its weights."""
    config = on_frozen_features(config)
    return replaced(config, objective=replaced(config.objective, classification=0.0))


def of_levels(config: RunConfig) -> RunConfig:
    generator = replaced(config.model.generator, depth=2, num_levels=2)
    return replaced(with_model(config, generator), training=replaced(config.training, gradient_clip=0.5))


def with_adaptive_augmentation(config: RunConfig) -> RunConfig:
    # A batch of 4 moves the probability by 0.4: within six steps it rises to its bound, or falls to 0, or both.
    return replaced(config, augment=replaced(config.augment, adaptive=0.5, adaptive_kimg=0.01))


@pytest.mark.parametrize(
    "recipe",
    [
        of_the_paper,
        with_first_order_penalty,
        on_frozen_features,
        with_an_idle_classifier,
        of_levels,
        aligned,
        with_adaptive_augmentation,
    ],
)
def test_resumed_equals_uninterrupted(
    labelled_store: str, tmp_path: Path, recipe: Callable[[RunConfig], RunConfig]
) -> None:
    config = recipe(tiny_run(labelled_store, horizontal_flip=True, lr_warmup_images=10))
    whole = vitgan.train(config, tmp_path / "whole")
    run = vitgan.train(config, tmp_path / "parts", hooks=stop_after(3))  # in the middle of an epoch, off the schedule
    assert newest(run).name == "000000k012"
    vitgan.train(config, resume=run, hooks=stop_after(1))
    vitgan.train(config, resume=run)
    expected, actual = newest(whole), newest(run)
    assert actual.name == expected.name == "000000k024"
    for name in ("generator", "generator_ema", "discriminator", "optimizers", "objective"):
        a, b = load_file(expected / f"{name}.safetensors"), load_file(actual / f"{name}.safetensors")
        assert a.keys() == b.keys()
        assert all(a[key].equal(b[key]) for key in a), name
    assert records(run) == records(whole)
    last = "samples/000000k024.png"
    assert (run / last).read_bytes() == (whole / last).read_bytes()


@pytest.mark.parametrize("budget", ["max_minutes", "max_cpu_minutes"])
def test_a_run_of_some_minutes_goes_on_counting_and_its_rates_fall_to_their_end(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, budget: str
) -> None:
    now = 0.0
    monkeypatch.setattr(clock, "time", SimpleNamespace(monotonic=lambda: now, process_time=lambda: now))

    def a_second_each(steps: int) -> Hooks:
        """A step takes a second, and its grid and checkpoint take none."""

        def should_stop() -> bool:
            nonlocal now, steps
            now, steps = now + 1, steps - 1
            return steps <= 0

        return Hooks(should_stop=should_stop, on_notice=told.append)

    told: list[str] = []
    config = tiny_run(store, **{budget: 8 / 60}, lr_decay=0.5, total_kimg=1)
    whole = vitgan.train(config, tmp_path / "whole", hooks=a_second_each(99))
    run = vitgan.train(config, tmp_path / "parts", hooks=a_second_each(3))
    vitgan.train(config, resume=run, hooks=a_second_each(3))
    vitgan.train(config, resume=run, hooks=a_second_each(99))
    assert newest(run).name == newest(whole).name
    for name in ("generator", "optimizers"):
        a, b = load_file(newest(whole) / f"{name}.safetensors"), load_file(newest(run) / f"{name}.safetensors")
        assert all(a[key].equal(b[key]) for key in a), name
    assert len(told) == 2  # the whole run's end, and this one's
    assert all(f"training.{budget}" in line and " of 1,000 images" in line for line in told)
    told.clear()
    vitgan.train(config, resume=run, hooks=a_second_each(99))
    assert len(told) == 1
    assert told[0].endswith(f"raise training.{budget}")
    longer = replaced(config, training=replaced(config.training, **{budget: 10 / 60}))
    vitgan.train(longer, resume=run, hooks=a_second_each(99))
    assert records(run)[-1]["images"] == records(whole)[-1]["images"] + 2 * config.training.batch_size


def test_log_lines_after_the_checkpoint_are_redone_not_doubled(store: str, tmp_path: Path) -> None:
    config = tiny_run(store)
    run = vitgan.train(config, tmp_path, hooks=stop_after(3))
    with (run / "metrics.jsonl").open("a") as file:  # as a killed process leaves it: beyond the checkpoint, cut short
        file.write('{"images": 16, "step": 4}\n{"images": 20, "st')
    vitgan.train(config, resume=run)
    assert [r["images"] for r in records(run)] == [4, 8, 12, 16, 20, 24]


def test_damaged_newest_checkpoint_is_passed_over(store: str, tmp_path: Path) -> None:
    config = tiny_run(store)
    run = vitgan.train(config, tmp_path, hooks=stop_after(3))
    damaged = checkpoints(run)[-1] / "discriminator.safetensors"
    data = bytearray(damaged.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    assert newest(run).name == "000000k008"
    vitgan.train(config, resume=run)
    assert newest(run).name == "000000k024"


def test_length_may_change_on_resume_but_not_the_model(store: str, tmp_path: Path) -> None:
    config = tiny_run(store)
    run = vitgan.train(config, tmp_path)
    longer = tiny_run(store, total_kimg=0.028)
    vitgan.train(longer, resume=run)
    assert newest(run).name == "000000k028"
    told: list[str] = []
    vitgan.train(longer, resume=run, hooks=Hooks(on_notice=told.append))  # does nothing, and says so
    assert len(told) == 1
    wider = config.model.generator.model_copy(update={"dim": 32})
    changed = longer.model_copy(update={"model": config.model.model_copy(update={"generator": wider})})
    begun_otherwise = longer.model_copy(update={"init_from": "cifar10"})
    for other, field in (
        (changed, "model.generator.dim"),
        (tiny_run(store, learning_rate=0.1, total_kimg=0.1), "training.learning_rate"),
        (tiny_run(store, lr_decay=0.5), "training.lr_decay"),
        (begun_otherwise, "init_from"),
    ):
        with refused(parameter=field):
            vitgan.train(other, resume=run)


def test_a_run_without_checkpoints_begins_again_and_says_so(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store), tmp_path)
    shutil.rmtree(run / "checkpoints")
    told: list[str] = []
    vitgan.train(tiny_run(store), resume=run, hooks=Hooks(on_notice=told.append))
    assert len(told) == 1
    assert newest(run).name == "000000k024"


def test_images_may_move_but_not_change(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store), tmp_path / "runs", hooks=stop_after(3))
    moved = shutil.copytree(store, tmp_path / "moved")
    vitgan.train(tiny_run(str(moved)), resume=run)
    assert newest(run).name == "000000k024"
    prepare(ImageFolder(write_images(tmp_path / "images", 7)), tmp_path / "others", resolution=8, workers=0)
    with refused(tmp_path / "others", parameter="data"):
        vitgan.train(tiny_run(str(tmp_path / "others"), total_kimg=0.028), resume=run)


def test_a_run_finds_its_images_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configuration says "store", which is another store, or none, elsewhere."""
    for project, count in (("here", 12), ("there", 7), ("nowhere", 0)):
        (tmp_path / project).mkdir()
        monkeypatch.chdir(tmp_path / project)
        if count:
            prepare(ImageFolder(write_images(Path("images"), count)), "store", resolution=8, workers=0)
    monkeypatch.chdir(tmp_path / "here")
    run = vitgan.train(tiny_run("store", total_kimg=0.008), "runs").absolute()
    record = (run / "data.json").read_bytes()
    for kimg, project in ((0.012, "there"), (0.016, "nowhere")):
        monkeypatch.chdir(tmp_path / project)
        vitgan.train(tiny_run("store", total_kimg=kimg), resume=run)
        assert (run / "data.json").read_bytes() == record
    assert newest(run).name == "000000k016"
    monkeypatch.chdir(tmp_path)
    with refused("there/store", parameter="data"):  # named by the user, so nothing else is taken for it
        vitgan.train(tiny_run("there/store", total_kimg=0.02), resume=run)
    (tmp_path / "here" / "store").rename(tmp_path / "moved")
    with refused("store", parameter="data"):
        vitgan.train(tiny_run("store", total_kimg=0.02), resume=run)
    vitgan.train(tiny_run("moved", total_kimg=0.02), resume=run)
    assert newest(run).name == "000000k020"


def test_memory_may_be_saved_on_resume(store: str, tmp_path: Path) -> None:
    """The same update but for rounding, so a run may go on where there is less memory."""
    run = vitgan.train(tiny_run(store), tmp_path, hooks=stop_after(3))
    vitgan.train(tiny_run(store, micro_batch_size=2, checkpoint_activations=True), resume=run)
    assert newest(run).name == "000000k024"


def test_old_checkpoints_are_pruned_and_newest_stay(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store, keep_checkpoints=2), tmp_path)
    assert [c.name for c in checkpoints(run)] == ["000000k016", "000000k024"]


def test_global_random_state_is_untouched(store: str, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.randn(3)
    torch.manual_seed(5)
    vitgan.train(tiny_run(store), tmp_path)
    assert torch.randn(3).equal(expected)
