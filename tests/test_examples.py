"""The examples run, shortened, and what they add to the package stays their own."""

import base64
import csv
import json
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

import vitgan
from tiny import tiny_model
from vitgan.errors import UserError
from vitgan.files.reading import read_model
from vitgan.models.build import (
    CUSTOM_NETWORKS,
    CustomConfig,
    GeneratorSpec,
    ModelConfig,
    build_discriminator,
    build_generator,
)
from vitgan.runs.folder import config_of_run
from vitgan.training.log import read_metrics
from vitgan.training.losses import LOSSES

EXAMPLES = Path(__file__).parent.parent / "examples"
NOTEBOOK = EXAMPLES / "first_steps.ipynb"
KIMG = 0.064
LARGEST_PICTURE = 100_000


@pytest.fixture(autouse=True)
def nothing_stays_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = {**LOSSES}, {**CUSTOM_NETWORKS}
    yield
    for names, kept in zip((LOSSES, CUSTOM_NETWORKS), before, strict=True):
        names.clear()
        names.update(kept)  # pyright: ignore[reportArgumentType, reportCallIssue]


def main_of(name: str) -> Callable[..., Path]:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.mark.parametrize("file", EXAMPLES.glob("*.py"), ids=lambda file: file.stem)
def test_an_example_is_short(file: Path) -> None:
    assert len(file.read_text("utf-8").splitlines()) < 60


@pytest.mark.parametrize("network", ["generator", "discriminator"])
def test_an_own_network_trains_resumes_and_is_loaded(tmp_path: Path, network: str) -> None:
    run = main_of(f"own_{network}")(KIMG, tmp_path)
    config = config_of_run(run)
    assert getattr(config.model, network).kind == "custom"
    longer = config.training.model_copy(update={"total_kimg": 2 * KIMG})
    vitgan.train(config.model_copy(update={"training": longer}), resume=run)
    assert read_metrics(run / "metrics.jsonl")[-1]["images"] >= 1000 * 2 * KIMG
    folder = vitgan.save(vitgan.load(run), tmp_path / "model")
    assert vitgan.load(folder).sample(2).equal(vitgan.load(run).sample(2))
    if network == "generator":
        CUSTOM_NETWORKS.clear()  # as for a stranger, who has the files alone
        with pytest.raises(UserError):
            vitgan.load(folder)


def test_a_network_that_is_not_there_or_of_the_other_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    runpy.run_path(str(EXAMPLES / "own_discriminator.py"))
    sizes = tiny_model().model_dump()
    for name in ("patches", "no such", ""):
        custom = CustomConfig(name=name)
        with pytest.raises(UserError):
            build_generator(GeneratorSpec(generator=custom))
        if name != "patches":
            with pytest.raises(UserError):
                build_discriminator(ModelConfig.model_validate(sizes | {"discriminator": custom}))


@pytest.mark.parametrize("changes", [{"generator": CustomConfig(name="no such")}, {"generator.num_heads": 5}])
def test_networks_that_cannot_be_built_leave_no_run(tmp_path: Path, changes: dict[str, object]) -> None:
    config = vitgan.preset("quickstart", **{f"model.{name}": value for name, value in changes.items()})
    with pytest.raises(UserError):
        vitgan.train(config, tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_settings_of_an_own_network_come_back_from_a_file(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"flag": True, "count": 3, "share": 0.5, "name": "x"}
    spec = GeneratorSpec(generator=CustomConfig(name="any", settings=settings))
    (tmp_path / "config.json").write_text(json.dumps(spec.model_dump(mode="json")))
    read = read_model(tmp_path / "config.json", GeneratorSpec, "model")
    assert read == spec
    assert isinstance(read.generator, CustomConfig)
    assert [type(value) for value in read.generator.settings.values()] == [bool, int, float, str]


def test_an_own_loss_is_what_is_minimised(tmp_path: Path) -> None:
    run = main_of("own_loss")(KIMG, tmp_path)
    assert config_of_run(run).objective.loss == "least_squares"
    record = read_metrics(run / "metrics.jsonl")[0]
    assert record["loss/adversarial"] >= 0


def test_an_own_callback_writes_and_stops(tmp_path: Path) -> None:
    main = main_of("own_callback")
    main(KIMG, tmp_path)
    rows = list(csv.reader((tmp_path / "losses.csv").open(newline="")))
    assert [float(row[0]) for row in rows] == [32, 64]
    stopped = main(KIMG, tmp_path, largest_gap=-100)
    assert read_metrics(stopped / "metrics.jsonl")[-1]["images"] == 32


def test_an_own_source_is_trained_on_with_its_labels(tmp_path: Path) -> None:
    run = main_of("own_data")(KIMG, tmp_path, count=40)
    generator = vitgan.load(run)
    assert generator.class_names == ("disc", "square")
    assert generator.class_counts == (20, 20)
    assert (run / "square.png").exists()
    main_of("own_data")(KIMG, tmp_path, count=40)
    assert len([*(tmp_path / "data").glob("shapes-*")]) == 1  # prepared once


def pictures_of(notebook: Any) -> list[bytes]:
    """The PNGs that cells show, in order."""
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return [base64.b64decode(o.data["image/png"]) for o in outputs if "image/png" in o.get("data", {})]


def test_the_notebook_runs_and_shows_pictures(tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    kept = pictures_of(notebook)
    lengths = [cell for cell in notebook.cells if "kimg = 20" in cell.source]
    lengths[0].source = lengths[0].source.replace("kimg = 20", f"kimg = {KIMG}")
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = pictures_of(notebook)
    assert len(shown) == len(kept) == 6
    assert max(map(len, kept)) < LARGEST_PICTURE
    texts = [o.data["text/plain"] for o in notebook.cells[2].outputs if "text/plain" in o.get("data", {})]
    assert any("images/s" in text for text in texts)  # progress, though nobody passed hooks
