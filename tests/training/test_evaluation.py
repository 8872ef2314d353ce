"""Evaluations during training: they leave the run as it would be, and keep the best checkpoint."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import vitgan
from refusals import refused
from reliability.torture import content
from tiny import TINY_GENERATOR, newest, tiny_run, write_images
from toy_features import toy_extractor
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.store import ImageStore
from vitgan.data.writer import StoreWriter
from vitgan.models.generator import Generator
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.presets import replaced, with_model
from vitgan.runs.evaluation import check_evaluation
from vitgan.runs.sources import near_pairs, notes_on_features
from vitgan.training.checkpoint import checkpoints
from vitgan.training.clock import Clock
from vitgan.training.hooks import Evaluation, Hooks
from vitgan.training.log import read_metrics
from vitgan.training.retention import best_checkpoint, remember_best


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("data")
    prepare(ImageFolder(write_images(folder / "images", 120)), folder / "store", resolution=8, workers=0)
    return str(folder / "store")


@pytest.fixture
def protocol(tmp_path: Path) -> str:
    """A real protocol with the offline features, small enough for a test."""
    fields = {
        "name": "tiny",
        "purpose": "a test",
        "features": "lite0",
        "generated_images": 24,
        "reference_images": 24,
        "kernel_subsets": 2,
        "kernel_subset_size": 8,
        "manifold_images": 24,
        "splits": 2,
    }
    path = tmp_path / "tiny.json"
    path.write_text(json.dumps(fields))
    return str(path)


def looking_through(base: RunConfig) -> RunConfig:
    return with_model(base, discriminator=ProjectedDiscriminatorConfig(features="lite0", input_size=32, width=4))


def aligned_with(base: RunConfig) -> RunConfig:
    discriminator = replaced(base.model.discriminator, alignment_features="lite0", alignment_size=32)
    return with_model(base, discriminator=discriminator, objective=replaced(base.objective, alignment=0.5))


@pytest.mark.parametrize(("use", "field"), [(looking_through, "features"), (aligned_with, "alignment_features")])
def test_features_that_train_d_do_not_judge(store: str, protocol: str, tmp_path: Path, use, field: str) -> None:
    config = use(tiny_run(store)).model_copy(update={"evaluate_every_kimg": 0.012, "protocol": protocol})
    with refused(parameter=f"model.discriminator.{field}"):
        vitgan.train(config, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    run = vitgan.train(config.model_copy(update={"evaluate_every_kimg": None}), tmp_path / "runs")
    assert any("lite0" in note for note in notes_on_features(run))


def test_a_folder_spelled_otherwise_does_not_judge_either(store: str, protocol: str, tmp_path: Path) -> None:
    fields = json.loads(Path(protocol).read_text()) | {"features": f"{tmp_path}/more/../dino/"}
    Path(protocol).write_text(json.dumps(fields))
    config = aligned_with(tiny_run(store)).model_copy(update={"evaluate_every_kimg": 0.012, "protocol": protocol})
    discriminator = replaced(config.model.discriminator, alignment_features=str(tmp_path / "dino"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"discriminator": discriminator})})
    with refused(parameter="model.discriminator.alignment_features"):
        check_evaluation(config, ImageStore.open(store))


def test_run_with_evaluations_equals_one_without(
    store: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda name, *_, **__: toy_extractor(name))
    plain = tiny_run(store)
    measured = plain.model_copy(update={"evaluate_every_kimg": 0.012, "protocol": protocol})
    expected, run = vitgan.train(plain, tmp_path / "plain"), vitgan.train(measured, tmp_path / "measured")
    for name in ("generator", "generator_ema", "discriminator", "optimizers"):
        a, b = load_file(newest(expected) / f"{name}.safetensors"), load_file(newest(run) / f"{name}.safetensors")
        assert all(a[key].equal(b[key]) for key in a), name
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluations = {r["images"]: r["evaluation/FD-lite0"] for r in records if "evaluation/FD-lite0" in r}
    assert list(evaluations) == [12, 24]
    best = best_checkpoint(run)
    assert best is not None
    assert best.score == min(evaluations.values())
    assert int(best.checkpoint.replace("k", "")) == min(evaluations, key=lambda images: evaluations[images])


def test_classes_and_path_length_are_measured_in_training(tmp_path: Path) -> None:
    """And an unconditional run that is to measure its classes is refused before it is made."""
    pixels = np.random.default_rng(0).integers(0, 256, (60, 3, 8, 8), dtype=np.uint8)
    with StoreWriter(tmp_path / "labelled", resolution=8, channels=3, labelled=True) as writer:
        writer.append(pixels, np.arange(60) % 2)
        writer.finish(source="test")
    fields = {"name": "both", "purpose": "a test", "features": "lite0", "generated_images": 24, "splits": 2}
    fields |= {"least_store_images": 20, "kernel_subsets": 2, "manifold_images": 20, "class_images": 8, "path_pairs": 6}
    (tmp_path / "both.json").write_text(json.dumps(fields))
    changes = {"evaluate_every_kimg": 0.024, "protocol": str(tmp_path / "both.json")}
    config = tiny_run(str(tmp_path / "labelled")).model_copy(update=changes)
    with refused(parameter="class_images"):
        vitgan.train(config, tmp_path / "refused")
    assert not list(tmp_path.glob("refused/*"))
    config = config.model_copy(update={"model": config.model.model_copy(update={"conditional": True})})
    run = vitgan.train(config, tmp_path / "runs")
    last = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()][-1]
    assert {"evaluation/intra-FD-lite0", "evaluation/PPL-lite0"} <= last.keys()


def test_best_checkpoint_outlives_newer_ones(store: str, tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])
    told: list[str] = []
    hooks = Hooks(lambda *_: None, on_notice=told.append, evaluate_every_kimg=0.004)
    hooks.evaluate = lambda generator: Evaluation({}, "FD", next(scores))
    run = vitgan.train(tiny_run(store, keep_checkpoints=1), tmp_path, hooks=hooks)
    before, after = told[::2], told[1::2]  # a person who waits is told for what
    assert all("FD" not in line for line in before)
    assert ["the best so far" in line for line in after] == [True, True, False, False, False, False]
    assert "FD 2" in after[2]
    assert [c.name for c in checkpoints(run)] == ["000000k008", "000000k024"]
    best = best_checkpoint(run)
    assert best is not None
    assert (best.checkpoint, best.score) == ("000000k008", 1.0)


def test_the_mean_style_is_computed_once_a_step(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample grid, the checkpoint and the evaluation of one step share it, also after the run went back."""
    update, steps, at = Generator.update_w_mean, [], 0

    def counted(generator: Generator) -> None:
        steps.append(at)
        update(generator)

    def on_step(images: int, clock: Clock) -> None:
        nonlocal at
        at = images

    monkeypatch.setattr(Generator, "update_w_mean", counted)
    hooks = Hooks(evaluate=lambda generator: Evaluation({}, "FD", 1.0), evaluate_every_kimg=0.008, on_step=on_step)
    vitgan.train(tiny_run(store), tmp_path, hooks=hooks)
    assert steps == [0, 8, 16, 24]


@pytest.mark.parametrize("images", [12, 24])
def test_evaluation_that_a_stop_ends_is_made_up_for(store: str, tmp_path: Path, images: int) -> None:
    """In the middle of a run and at its end; the checkpoint is written before, so that nothing waits for figures."""
    config, asked = tiny_run(store, keep_checkpoints=1), False

    def evaluate(generator: Generator) -> Evaluation:
        nonlocal asked
        asked = asked or (newest(run).name, stops) == (f"000000k{images:03d}", True)
        score = generator.sample(8).mean().item()
        return Evaluation({"mean": score}, "mean", score)

    def hooks() -> Hooks:
        return Hooks(evaluate=evaluate, evaluate_every_kimg=0.012, should_stop=lambda: asked)

    run, stops = tmp_path / "whole" / "00000-store", False
    vitgan.train(config, tmp_path / "whole", hooks=hooks())
    expected = content(run)
    run, stops = tmp_path / "parts" / "00000-store", True
    vitgan.train(config, tmp_path / "parts", hooks=hooks())
    assert asked
    assert newest(run).name == f"000000k{images:03d}"
    evaluated = [r["images"] for r in read_metrics(run / "metrics.jsonl") if "evaluation/mean" in r]
    assert images not in evaluated
    stops = asked = False
    vitgan.train(config, resume=run, hooks=hooks())
    assert content(run) == expected


@pytest.mark.parametrize("kind", ["vit", "stylegan2"])
def test_a_path_length_is_stopped_too(store: str, tmp_path: Path, kind: str) -> None:
    """It calls the mapping and the synthesis, and never the whole generator."""
    config, pairs = tiny_run(store), 0
    config = replaced(
        config, model=replaced(config.model, generator={"kind": kind} if kind != "vit" else TINY_GENERATOR)
    )

    def evaluate(generator: Generator) -> Evaluation:
        nonlocal pairs
        for _ in near_pairs(generator, 10, 0, 0.1, batch_size=1):
            pairs += 1
        return Evaluation({}, "PPL", 1.0)

    hooks = Hooks(evaluate=evaluate, evaluate_every_kimg=0.012, should_stop=lambda: pairs == 2)
    run = vitgan.train(config, tmp_path, hooks=hooks)
    assert pairs == 2
    assert newest(run).name == "000000k012"


def test_scores_of_another_figure_are_not_compared(tmp_path: Path) -> None:
    for images in (4, 8):
        (tmp_path / "checkpoints" / f"000000k{images:03d}").mkdir(parents=True)
    remember_best(tmp_path, 4, "FD-lite0", 10.0)
    remember_best(tmp_path, 8, "FID", 20.0)
    best = best_checkpoint(tmp_path)
    assert best is not None
    assert best.name == "FID"


@pytest.mark.parametrize(
    ("change", "anew"), [({}, False), ({"purpose": "the same"}, False), ({"generated_images": 30}, True)]
)
def test_an_edited_protocol_begins_the_comparison_anew(
    store: str, protocol: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, object], anew: bool
) -> None:
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda name, *_, **__: toy_extractor(name))
    changes = {"evaluate_every_kimg": 0.012, "protocol": protocol}
    run = vitgan.train(tiny_run(store).model_copy(update=changes), tmp_path)
    record = json.loads((run / "best.json").read_text())
    (run / "best.json").write_text(json.dumps(record | {"score": -1.0}))  # no later one is lower
    Path(protocol).write_text(json.dumps(json.loads(Path(protocol).read_text()) | change))
    vitgan.train(tiny_run(store, total_kimg=0.036).model_copy(update=changes), resume=run)
    best = best_checkpoint(run)
    assert best is not None
    assert (best.checkpoint == "000000k036") == (best.score != -1.0) == (best.name != record["name"]) == anew


def test_a_damaged_record_of_the_best_is_refused_before_the_run_goes_on(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store), tmp_path)
    (run / "best.json").write_text('{"checkpoint": 3')
    longer = tiny_run(store, total_kimg=0.04)
    with refused("best.json"):
        vitgan.train(longer, resume=run)
    assert newest(run).name == "000000k024"
    (run / "best.json").unlink()
    vitgan.train(longer, resume=run)
    assert newest(run).name == "000000k040"


def test_unknown_protocol_is_refused(store: str, tmp_path: Path) -> None:
    config = tiny_run(store).model_copy(update={"evaluate_every_kimg": 1.0, "protocol": "quick"})
    with refused("quick", parameter="protocol"):
        vitgan.train(config, tmp_path)
