"""An ablation trains its rows, goes on where it was stopped, and reports what its runs logged."""

import csv
import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments.searches import SEARCHES
from refusals import refused
from tiny import newest, tiny_run, write_images
from toy_features import toy_extractor
from vitgan.ablation.report import write_report
from vitgan.ablation.results import collect
from vitgan.ablation.run import (
    Plan,
    check_place,
    check_runs,
    configurations,
    is_finished,
    members,
    run_of_member,
    run_suite,
)
from vitgan.ablation.suites import SUITES, Suite, at_rate, equal_flops
from vitgan.cli.main import dispatch
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.errors import UserError
from vitgan.models.build import ModelConfig
from vitgan.models.costs import Costs, model_costs
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.presets import cifar10_tiny, modern, preset, replaced, stylegan2, stylegan2d, with_model
from vitgan.runs.train import check_networks
from vitgan.training.augment import AugmentConfig
from vitgan.training.hooks import Hooks
from vitgan.training.objective import ObjectiveConfig

SUITE = Suite("discriminator", SUITES["discriminator"].question, dict(list(SUITES["discriminator"].rows.items())[-2:]))


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    folder = tmp_path_factory.mktemp("data")
    prepare(ImageFolder(write_images(folder / "images", 30)), folder / "store", resolution=8, workers=0)
    fields = {"name": "tiny", "purpose": "a test", "features": "lite0", "generated_images": 24, "splits": 2}
    fields |= {"reference_images": 24, "least_store_images": 24, "kernel_subsets": 2, "kernel_subset_size": 8}
    (folder / "tiny.json").write_text(json.dumps(fields | {"manifold_images": 24}))
    base = replaced(tiny_run(str(folder / "store")), protocol=str(folder / "tiny.json"))
    return Plan(suite="discriminator", kimg=0.016, evaluate_every_kimg=0.008, base=base)


@pytest.fixture(autouse=True)
def _toy_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features that cost nothing: metrics have tests of their own."""
    monkeypatch.setattr("vitgan.runs.evaluation.load_extractor", lambda name, *_, **__: toy_extractor(name))


@functools.cache
def costs_of(model: str) -> tuple[Costs, Costs]:
    return model_costs(ModelConfig.model_validate_json(model))


@pytest.fixture(autouse=True)
def _costs_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many rows differ in other things than networks."""
    monkeypatch.setattr("vitgan.ablation.suites.model_costs", lambda model: costs_of(model.model_dump_json()))


def test_rows_are_trained_stopped_resumed_and_reported(plan: Plan, tmp_path: Path) -> None:
    stopping: list[bool] = []

    def stop_after_two_steps(row: str, config: object) -> Hooks:
        counted = iter(range(100))

        def should_stop() -> bool:
            if next(counted) == 1:
                stopping.append(True)
            return bool(stopping)

        return Hooks(should_stop=should_stop)

    assert not run_suite(SUITE, plan, tmp_path, stop_after_two_steps, stopped=lambda: bool(stopping))
    first, second = members(SUITE, plan)
    run = run_of_member(tmp_path, first)
    assert run is not None
    assert newest(run).name == "000000k008"
    assert run_of_member(tmp_path, second) is None
    assert run_suite(SUITE, plan, tmp_path)
    assert run_of_member(tmp_path, first) == run  # the same run went on
    assert newest(run).name == "000000k016"
    before = (run / "metrics.jsonl").read_text()
    assert run_suite(SUITE, plan, tmp_path)
    assert (run / "metrics.jsonl").read_text() == before  # finished rows are passed over

    report = write_report(SUITE, plan, tmp_path, "vitgan ablate discriminator --kimg 0.016")
    text = report.read_text()
    assert "vitgan ablate discriminator --kimg 0.016" in text
    assert all(f"| {row} |" in text for row in SUITE.rows)
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == list(SUITE.rows)
    evaluations = [r for r in collect(SUITE, plan, tmp_path)[first.row][0].records if "evaluation/FD-lite0" in r]
    assert len(evaluations) == 2
    last = evaluations[-1]
    assert rows[0]["FD-lite0 at 0.016 kimg"] == f"{last['evaluation/FD-lite0']:.1f}"
    assert rows[0]["best FD-lite0"] == f"{min(r['evaluation/FD-lite0'] for r in evaluations):.1f}"
    for figure, digits in (("KD", 3), ("IS", 2), ("precision", 2), ("recall", 2), ("coverage", 2)):
        assert rows[0][figure] == f"{last[f'evaluation/{figure}-lite0']:.{digits}f}"
    for name in ("curves.png", "grids.png"):
        assert np.asarray(Image.open(tmp_path / name)).shape[1] > 200

    without_scores = run / "metrics.jsonl"  # as of a row that has not come to its first evaluation
    without_scores.write_text("".join(line + "\n" for line in before.splitlines() if "evaluation/" not in line))
    write_report(SUITE, plan, tmp_path, "")
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert rows[0]["FD-lite0 at 0.016 kimg"] == rows[0]["best FD-lite0"] == ""
    assert float(rows[1]["FD-lite0 at 0.016 kimg"]) > 0


def test_another_plan_in_the_same_folder_is_refused(plan: Plan, tmp_path: Path) -> None:
    run_suite(Suite("discriminator", "", {}), plan, tmp_path)
    with pytest.raises(UserError) as caught:
        run_suite(Suite("discriminator", "", {}), plan.model_copy(update={"kimg": 1.0}), tmp_path)
    assert caught.value.parameter == "out"


@pytest.mark.parametrize(
    ("suite", "base", "row"),
    [
        ("discriminator", "cifar10-stylegan2", "none"),
        ("discriminator", "cifar10-tiny-projected", "none"),
        ("generator", "cifar10-stylegan2", "sln+inr"),
        ("pairs", "cifar10-stylegan2", "vanilla-r1"),
        ("pairs", "cifar10-stylegan2", "stylegan2"),
        ("pairs", "imagenet256-gat-s", "stylegan2-projected"),
        ("modern", "cifar10-tiny-projected", "+dot+qk-norm"),
    ],
)
def test_a_base_that_a_row_cannot_be_made_of_is_refused(suite: str, base: str, row: str, plan: Plan) -> None:
    plan = replaced(plan, base=replaced(preset(base), objective=ObjectiveConfig()))
    with refused(row, base, parameter="base"):
        configurations(SUITES[suite].only([row]), plan)


def without_a_vit(base: RunConfig) -> RunConfig:
    return replaced(base, model=replaced(base.model, discriminator=StyleGAN2DiscriminatorConfig()))


def test_an_ablation_whose_protocol_was_edited_meanwhile_does_not_go_on(plan: Plan, tmp_path: Path) -> None:
    protocol = tmp_path / "own.json"
    fields = json.loads(Path(plan.base.protocol).read_text())
    protocol.write_text(json.dumps(fields))
    suite = Suite("discriminator", "", {"plain": lambda base: base})

    def now() -> Plan:
        base = replaced(plan.base, protocol=str(protocol))
        return Plan(suite="discriminator", kimg=0.004, evaluate_every_kimg=1000.0, base=base)

    assert run_suite(suite, now(), tmp_path / "out")
    protocol.write_text(json.dumps(fields | {"purpose": "said otherwise"}))
    check_place(tmp_path / "out", now())
    protocol.write_text(json.dumps(fields | {"generated_images": 20}))
    with refused("protocol", parameter="protocol"):
        run_suite(suite, now(), tmp_path / "out")


@pytest.mark.parametrize(
    ("last", "parameter"),
    [
        (lambda base: modern(without_a_vit(base)), "base"),
        (lambda base: replaced(base, protocol="nothing"), "protocol"),
        (lambda base: replaced(base, model=replaced(base.model, channels=1)), "model.channels"),
        (lambda base: replaced(base, model=replaced(base.model, conditional=True)), "model.conditional"),
    ],
)
def test_a_mistake_in_the_last_row_is_found_before_anything_is_written(
    last: Callable[[RunConfig], RunConfig], parameter: str, plan: Plan, tmp_path: Path
) -> None:
    with refused("last", plan.base.preset, parameter=parameter):
        run_suite(Suite("own", "", {"first": lambda base: base, "last": last}), plan, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_finished_row_that_has_changed_is_refused(plan: Plan, tmp_path: Path) -> None:
    plan = replaced(plan, kimg=0.004, evaluate_every_kimg=1000.0)
    suite = Suite("own", "", {"row": lambda base: base})
    assert run_suite(suite, plan, tmp_path)
    changed = Suite("own", "", {"row": lambda base: with_model(base, objective=ObjectiveConfig(bcr_real=1))})
    with refused("row", "objective.bcr_real", parameter="out"):
        run_suite(changed, plan, tmp_path)
    with refused("row", "objective.bcr_real", parameter="out"):
        check_runs(changed, plan, tmp_path)
    assert run_suite(suite, plan, tmp_path)
    check_runs(suite, plan, tmp_path)


def test_a_report_alone_needs_no_images_and_refuses_rows_that_have_changed(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(plan.base.data, tmp_path / "store")
    rows = {"row": lambda base: base}
    monkeypatch.setitem(SUITES, "own", Suite("own", "", rows))
    monkeypatch.setattr("vitgan.presets.preset", lambda name: plan.base)
    words = ["ablate", "own", "--base", "tiny", "--data", str(tmp_path / "store"), "--kimg", "0.004"]
    words += ["--evaluate-every-kimg", "1000", "--protocol", plan.base.protocol, "--out", str(tmp_path / "out")]
    words += ["--no-paper-objective"]
    dispatch(words)
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "out" / "report.md").unlink()
    dispatch([*words, "--report-only"])
    report = (tmp_path / "out" / "report.md").read_bytes()
    rows["row"] = lambda base: with_model(base, objective=ObjectiveConfig(bcr_real=1))
    with refused("row", "objective.bcr_real", parameter="out"):
        dispatch([*words, "--report-only"])
    assert (tmp_path / "out" / "report.md").read_bytes() == report


def test_a_row_that_diverges_is_reported_and_the_others_train(plan: Plan, tmp_path: Path) -> None:
    def diverging(base: RunConfig) -> RunConfig:
        return replaced(base, training=replaced(base.training, logit_bound=1e-9))

    plan = replaced(plan, kimg=0.004, evaluate_every_kimg=1000.0)
    suite = Suite("own", "", {"diverging": diverging, "sound": lambda base: base})
    assert run_suite(suite, plan, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert run_suite(suite, plan, tmp_path)  # nothing is left to do
    assert sorted(tmp_path.rglob("*")) == before
    with refused("diverging", "training.learning_rate", parameter="out"):
        slower = Suite("own", "", suite.rows | {"diverging": lambda base: at_rate(diverging(base), 1e-5)})
        run_suite(slower, plan, tmp_path)
    text = write_report(suite, plan, tmp_path, "").read_text()
    assert "step 0 diverged" in text
    rows = list(csv.DictReader((tmp_path / "report.csv").read_text().splitlines()))
    assert [row["row"] for row in rows] == list(suite.rows)
    assert rows[0]["best FD-lite0"] == ""
    assert float(rows[1]["best FD-lite0"]) > 0


def test_only_an_ablations_folder_is_written_to(plan: Plan, tmp_path: Path) -> None:
    (tmp_path / "report.md").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = {p: p.read_text() for p in tmp_path.iterdir()}
    for folder in (tmp_path, tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError):
            run_suite(SUITE, plan, folder)
    assert {p: p.read_text() for p in tmp_path.iterdir()} == before


def test_rows_on_other_images_are_refused(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is another store in another folder."""
    for project, count in (("here", 30), ("there", 31)):
        images = ImageFolder(write_images(tmp_path / project / "images", count))
        prepare(images, tmp_path / project / "store", resolution=8, workers=0)
    plan = replaced(plan, base=replaced(plan.base, data="store"), kimg=0.008, evaluate_every_kimg=1000.0)
    monkeypatch.chdir(tmp_path / "here")
    stopping: list[bool] = []

    def hooks_for(row: str, config: RunConfig) -> Hooks:
        return Hooks(on_step=lambda done, total: stopping.append(True), should_stop=lambda: bool(stopping))

    assert not run_suite(SUITE, plan, tmp_path / "out", hooks_for, lambda: bool(stopping))
    monkeypatch.chdir(tmp_path / "there")
    with pytest.raises(UserError) as caught:
        run_suite(SUITE, plan, tmp_path / "out")
    assert caught.value.parameter == "out"
    assert len([member for member in members(SUITE, plan) if run_of_member(tmp_path / "out", member)]) == 1


def test_every_seed_is_a_run_of_its_own(plan: Plan, tmp_path: Path) -> None:
    suite = Suite("discriminator", "", {"plain": lambda base: base})
    plan = plan.model_copy(update={"seeds": (0, 3), "kimg": 0.008})
    assert run_suite(suite, plan, tmp_path)
    runs = collect(suite, plan, tmp_path)["plain"]
    assert [run.config.training.seed for run in runs] == [0, 3]
    assert runs[0].last("loss/discriminator") != runs[1].last("loss/discriminator")
    write_report(suite, plan, tmp_path, "")
    [row] = csv.DictReader((tmp_path / "report.csv").read_text().splitlines())
    scores = sorted(run.score()[1][-1] for run in runs)
    assert row["FD-lite0 at 0.008 kimg"] == f"{sum(scores) / 2:.1f} ({scores[0]:.1f} to {scores[1]:.1f})"


def test_a_conditional_row_goes_on(plan: Plan, tmp_path: Path) -> None:
    """Its run knows the number of its classes, which the suite's base does not."""
    for name in ("cat", "dog"):
        write_images(tmp_path / "images" / name, 15)
    prepare(ImageFolder(tmp_path / "images"), tmp_path / "store", resolution=8, workers=0)
    model = replaced(plan.base.model, conditional=True)
    base = replaced(plan.base, data=str(tmp_path / "store"), model=model)
    suite = Suite("one", "", {"row": lambda config: config})
    stopping: list[bool] = []

    def hooks_for(row: str, config: RunConfig) -> Hooks:
        return Hooks(on_step=lambda done, total: stopping.append(True), should_stop=lambda: bool(stopping))

    plan = Plan(suite="one", kimg=0.016, evaluate_every_kimg=1000, base=base)
    assert not run_suite(suite, plan, tmp_path / "out", hooks_for, lambda: bool(stopping))
    assert run_suite(suite, plan, tmp_path / "out")
    run = run_of_member(tmp_path / "out", members(suite, plan)[0])
    assert run is not None
    assert newest(run).name == "000000k016"
    check_runs(suite, plan, tmp_path / "out")


def test_a_budget_in_processor_time_ends_a_run(plan: Plan, tmp_path: Path) -> None:
    suite = Suite("discriminator", "", {"plain": lambda base: base})
    plan = plan.model_copy(update={"kimg": 1e6, "cpu_minutes": 0.02, "evaluate_every_kimg": 1e6})
    assert run_suite(suite, plan, tmp_path)
    [member] = members(suite, plan)
    run = run_of_member(tmp_path, member)
    assert run is not None
    assert newest(run)
    config = configurations(suite, plan)[member]
    assert is_finished(run, config)
    longer = replaced(config, training=replaced(config.training, max_cpu_minutes=10.0))
    assert not is_finished(run, longer)
    [run_result] = collect(suite, plan, tmp_path)["plain"]
    spent = run_result.cpu_minutes([run_result.kimg])[0]
    assert spent >= 0.02
    assert len(run_result.score()[0]) == 1  # measured at its end


@pytest.mark.parametrize("row", [stylegan2d, stylegan2])
def test_stylegan2_rows_cost_what_the_vits_cost(row: Callable[[RunConfig], RunConfig]) -> None:
    base = cifar10_tiny()
    matched = equal_flops(row(base), base)
    for ours, theirs in zip(model_costs(base.model), model_costs(matched.model), strict=True):
        assert theirs.flops_per_image == pytest.approx(ours.flops_per_image, rel=0.05)


def test_discriminator_rows_are_cumulative() -> None:
    rows = {name: row(with_model(cifar10_tiny())) for name, row in SUITES["discriminator"].rows.items()}
    assert rows["none"].model.discriminator.model_dump().items() >= {"attention": "dot", "weight_norm": "none"}.items()
    assert rows["none"].model.discriminator.model_dump()["overlap"] == 0
    last = rows["l2+isn+overlap+bcr+diffaug"]
    assert last.model.discriminator == cifar10_tiny().model.discriminator
    assert (last.objective.bcr_real, last.objective.diffaugment) == (10, True)
    assert rows["l2+isn+overlap+bcr"].objective.diffaugment is False
    assert rows["r1"].objective.r1_gamma > 0
    assert all(row.objective.r1_gamma == 0 for name, row in rows.items() if name != "r1")


TABLES = SUITES | SEARCHES


@pytest.mark.parametrize("suite", TABLES)
def test_rows_are_trainable_and_differ(suite: str) -> None:
    """Each row's networks can be built, and on the base of a suite no other row is the same run."""
    base = replaced(cifar10_tiny(), objective=ObjectiveConfig())
    rows = {name: build(base) for name, build in TABLES[suite].rows.items()}
    for row, config in rows.items():
        check_networks(config, starts=True)
        assert [name for name, other in rows.items() if other == config] == [row]


def test_the_modern_suite_comes_to_the_modern_preset_and_goes_on_from_it() -> None:
    rows = {name: row(cifar10_tiny()) for name, row in SUITES["modern"].rows.items()}
    assert rows["+interpolated"] == modern(cifar10_tiny())
    for name in ("+positions", "+summed-levels", "+scaled-levels"):
        assert rows[name].training == modern(cifar10_tiny()).training
    levels = [
        (rows[name].model.num_levels, rows[name].model.scaled_levels) for name in ("+summed-levels", "+scaled-levels")
    ]
    assert levels == [(3, False), (3, True)]


def test_the_papers_objective_comes_with_its_augmentation(plan: Plan, tmp_path: Path) -> None:
    """A base may have turned parts of it off."""
    words = ["ablate", "discriminator", "--base", "quickstart", "--kimg", "0.004", "--data", plan.base.data]
    found = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vitgan.ablation.run.run_suite", lambda suite, plan, *_: found.append(plan.base))
        patch.setattr("vitgan.ablation.report.write_report", lambda *_: "")
        dispatch([*words, "--out", str(tmp_path / "out")])
        dispatch([*words, "--out", str(tmp_path / "out"), "--no-paper-objective"])
    assert (found[0].objective, found[0].augment) == (ObjectiveConfig(), AugmentConfig())
    assert (found[1].objective, found[1].augment) == (preset("quickstart").objective, preset("quickstart").augment)


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        ("sweep --kimg 1", "suite"),
        ("discriminator", "kimg"),
        ("discriminator --kimg 0", "kimg"),
        ("discriminator --kimg 1 --evaluate-every-kimg 0", "evaluate_every_kimg"),
        ("discriminator --kimg nan", "kimg"),
        ("discriminator --minutes inf", "minutes"),
        ("discriminator --kimg 1 --report-only --out nowhere", "out"),
        ("discriminator --kimg 1 --seeds 1 1", "seeds"),
        ("discriminator --kimg 1 --only nothing", "only"),
        ("discriminator --kimg 1 --base nothing", None),
    ],
)
def test_mistakes_are_one_line(arguments: str, parameter: str | None) -> None:
    with pytest.raises(UserError) as error:
        dispatch(["ablate", *arguments.split()])
    assert "\n" not in str(error.value)
    assert error.value.parameter == parameter
