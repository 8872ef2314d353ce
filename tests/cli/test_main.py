"""The whole way on the command line: prepare, train, stop, resume, sample, look; and every mistake in one line."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refusals import check_refusal
from tiny import TINY_OVERRIDES
from vitgan.cli.main import COMMANDS, dispatch, main
from vitgan.errors import UserError
from vitgan.models.projected_discriminator import ProjectedDiscriminatorConfig
from vitgan.models.stylegan2_generator import StyleGAN2GeneratorConfig

TRAIN = ["train", "cifar10-tiny", *TINY_OVERRIDES]


@pytest.fixture(scope="module")
def run(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs")
    dispatch([*TRAIN, "--data", store, "--out", str(out)])
    return out / "00000-cifar10-tiny"


def test_run_folder_is_as_documented(run: Path) -> None:
    assert (run / "config.json").is_file()
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 3
    assert [p.name for p in sorted((run / "samples").iterdir())] == ["000000k000.png", "000000k012.png"]
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == ["000000k008", "000000k012"]
    assert any((run / "tensorboard").iterdir())


def test_sample_writes_grid_folder_and_npz(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid, folder, npz = tmp_path / "grid.png", tmp_path / "images", tmp_path / "images.npz"
    outputs = ["--grid", str(grid), "--folder", str(folder), "--npz", str(npz)]
    dispatch(["sample", str(run), "--count", "6", "--seed", "1", "--truncation", "0.7", "--enlarge", "1", *outputs])
    assert str(grid) in capsys.readouterr().out
    array = np.load(npz)["images"]
    assert array.shape == (6, 8, 8, 3)
    assert array.dtype == np.uint8
    pixels = np.asarray(Image.open(grid))
    assert pixels.shape == (16, 24, 3)  # three columns, two rows
    assert np.array_equal(pixels[:8, 8:16], array[1])
    files = sorted(folder.glob("*.png"))
    assert len(files) == 6
    assert np.array_equal(np.asarray(Image.open(files[5])), array[5])


@pytest.mark.parametrize(
    ("options", "parameter"),
    [
        ("--training.trackers nope", "training.trackers"),
        ("--training.trackers wandb", "training.trackers"),
        ("--training.trackers tensorboard tensorboard", "training.trackers"),
        ("--training.device meta", "training.device"),
        ("--training.total-kimg inf", "training.total_kimg"),
        ("--training.learning-rate nan", "training.learning_rate"),
        ("--training.sample-count 100000000", "training.sample_count"),
        ("--training.seed 99999999999999999999", "training.seed"),
        ("--model.generator.dim x", "model.generator.dim"),
        ("--model.generator.depth 100000", None),
        ("--evaluate-every-kimg 0.004 --protocol nope", "protocol"),
        ("--evaluate-every-kimg 0.004 --protocol cifar10-train-50k", "protocol"),
        ("--data nowhere", None),
        ("--out file", None),
        ("--out file/below", None),
        ("--out /proc/nowhere", None),
    ],
)
def test_a_run_that_cannot_be_is_refused_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, parameter: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    with pytest.raises(UserError) as error:
        dispatch(["train", "quickstart", *TINY_OVERRIDES, "--model.resolution", "32", *options.split()])
    assert "\n" not in str(error.value)
    assert parameter in (None, error.value.parameter)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("file", "mine")]


def test_info_shows_presets_runs_and_models(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info", "--runs", str(run.parent)])
    text = capsys.readouterr().out
    assert "quickstart" in text
    assert "000000k012" in text
    dispatch(["info", str(run)])
    text = capsys.readouterr().out
    assert "cifar10-tiny" in text
    assert str(run / "samples" / "000000k012.png") in text
    dispatch(["train", "--resume", str(run), "--dry-run"])
    assert "GFLOPs" in capsys.readouterr().out
    dispatch(["info", "cifar10"])
    assert " 11,380,995 " in capsys.readouterr().out


def test_a_runs_own_configuration_makes_the_same_run_and_options_come_first(run: Path, tmp_path: Path) -> None:
    file = str(run / "config.json")
    dispatch(["train", "--config", file, "--out", str(tmp_path)])
    again = tmp_path / run.name
    assert (again / "config.json").read_bytes() == (run / "config.json").read_bytes()
    weights = "checkpoints/000000k012/generator.safetensors"
    assert (again / weights).read_bytes() == (run / weights).read_bytes()
    (tmp_path / "own.yaml").write_text("training: {seed: 3, total_kimg: 0.004}")
    words = ["train", "--config", str(tmp_path / "own.yaml"), "--data", "fashion-mnist", "--training.seed", "4"]
    for start in (words, ["train", "cifar10-tiny", *TINY_OVERRIDES, *words[1:], "--model.channels", "1"]):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            dispatch([*start, "--dry-run"])
        training = json.JSONDecoder().raw_decode(output.getvalue())[0]["training"]
        assert training["seed"] == 4
        assert training["total_kimg"] == (0.004 if start is words else 0.012)
    with pytest.raises(UserError) as caught:  # the file has all fields, so the preset would do nothing
        dispatch(["train", "cifar10", "--config", file, "--dry-run"])
    assert caught.value.parameter == "config"


def test_of_an_option_that_is_given_twice_the_last_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("quickstart", "cifar10-tiny"):
        (tmp_path / f"{name}.yaml").write_text(f"preset: {name}\ntraining: {{seed: 3}}\n")
    files = [word for name in ("quickstart", "cifar10-tiny") for word in ("--config", str(tmp_path / f"{name}.yaml"))]
    dispatch(["train", *files, "--training.seed", "1", "--training.seed", "2", "--dry-run"])
    said = capsys.readouterr().out
    assert '"preset": "cifar10-tiny"' in said
    assert '"seed": 2' in said


def test_dry_run_prints_and_makes_nothing(store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["train", "cifar10", "--data", store, "--out", str(tmp_path / "runs"), "--dry-run"])
    text = capsys.readouterr().out
    assert '"batch_size": 128' in text
    assert "11,380,995 parameters" in text
    assert "GiB" in text
    assert not (tmp_path / "runs").exists()


def error_of(*arguments: object) -> UserError:
    with pytest.raises(UserError) as caught:
        dispatch([str(argument) for argument in arguments])
    assert "\n" not in str(caught.value)
    return caught.value


def test_what_is_mistyped_is_said_with_the_nearest_name() -> None:
    assert "'train'" in str(error_of("trian"))
    assert "'quickstart'" in str(error_of("train", "quikstart"))
    assert "'zoom'" in str(error_of("explore", "zom"))
    assert error_of("train", "quickstart", "--model.generator.dept", 3).parameter == "model.generator.depth"
    assert error_of("train", "quickstart", "--generator.depth", 3).parameter == "model.generator.depth"
    assert "quickstart" in str(error_of("train", "--data", "store"))
    assert "unknown argument 'more'" in str(error_of("info", "quickstart", "more"))
    assert error_of("train", "quickstart", "fold").parameter is None  # no option is near a value
    assert error_of("data", "folder", "photos").parameter == "source"
    for words in (["serve"], ["serve", "--port", "1"], ["explore", "mix"]):
        assert "'--hell'" in str(error_of(*words, "--hell"))
    assert error_of("sample", "--truncatoin", "0.5", "u").parameter == "truncation"
    assert "MODEL" in str(error_of("serve", "--no-page"))
    assert "5-1 must rise" in str(error_of("sample", "cifar10", "--seeds", "5-1"))


@pytest.mark.parametrize(
    ("words", "field", "other"),
    [
        ("train quickstart --model.conditional True", "model.conditional", "--model.no-conditional"),
        (
            "train quickstart --training.horizontal_flip=false",
            "training.horizontal_flip",
            "--training.no-horizontal-flip",
        ),
        ("evaluate heads --cache False", "cache", "--no-cache"),
    ],
)
def test_a_switch_that_is_given_a_value_is_said_to_be_one(words: str, field: str, other: str) -> None:
    error = error_of(*words.split())
    assert error.parameter == field
    assert other in str(error)


def test_a_place_for_prepared_images_beside_a_runs_folder_needs_images(store: str, tmp_path: Path) -> None:
    words = ("--data", store, "--folder", tmp_path / "run", "--out", tmp_path / "runs")
    assert error_of(*TRAIN, *words).parameter == "out"
    assert not any(tmp_path.iterdir())


def test_mistakes_are_one_line_each(store: str, run: Path, tmp_path: Path) -> None:
    wrong = error_of(*TRAIN, "--data", store, "--out", tmp_path, "--model.generator.patch-size", 3)
    assert wrong.parameter == "model.generator.patch_size"
    assert error_of("train", "cifar10", "--data", store).parameter == "model.resolution"
    assert error_of(*TRAIN, "--data", store, "--model.channels", 1).parameter == "model.channels"
    check_refusal(error_of("train", "--resume", tmp_path / "none"), tmp_path / "none")
    assert error_of("train", "--resume", run, "--model.generator.dim", 32).parameter == "model.generator.dim"
    check_refusal(error_of("sample", tmp_path / "none"), tmp_path / "none")
    check_refusal(error_of("info", "nothing"), "'nothing'")


@pytest.mark.parametrize(
    ("words", "parameter"),
    [
        ("--config {run}/config.json", "config"),
        ("--config {run}/config.json --model.discriminator.features lite2", "config"),
        ("--model.discriminator.kind projected", "model.discriminator.kind"),
        ("--out elsewhere", "out"),
        ("--folder elsewhere", "folder"),
    ],
)
def test_a_resumed_run_keeps_its_configuration(run: Path, words: str, parameter: str) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    assert error_of("train", "--resume", run, *words.format(run=run).split()).parameter == parameter
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_a_preset_beside_a_resumed_run_is_named_with_what_may_change(run: Path) -> None:
    said = str(error_of("train", "quickstart", "--resume", run))
    assert "quickstart" in said
    assert "total_kimg" in said


@pytest.mark.parametrize("option", ["resume", "config"])
def test_an_option_at_the_end_needs_a_value(option: str) -> None:
    for words in (["quickstart", f"--{option}"], [f"--{option}="]):
        assert error_of("train", *words).parameter == option


def test_run_without_a_checkpoint_cannot_resume(store: str, run: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((run / "config.json").read_text())
    assert error_of("train", "--resume", tmp_path).parameter == "resume"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("train nothing", "unknown preset 'nothing'"),
        ("train quickstart --training.batch-size 7 --training.micro-batch-size 2", "(--training.micro-batch-size)"),
        ("evaluate nothing --batch-size 0", "--batch-size must"),
        (["sample", "fashion-mnist", "--label", "a\n\x1b[2Jb"], r"a\n\x1b[2Jb"),
        (["train", "quickstart", "--data", "no\nstore"], r"no\nstore"),
        ("train quickstart --model.discriminator.kind nothing", "model.discriminator.kind must"),
    ],
)
def test_exit_code_2_and_the_options_name(
    arguments: str | list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vitgan", *(arguments.split() if isinstance(arguments, str) else arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("vitgan: ")
    assert printed.count("\n") == 1
    assert said in printed


def test_networks_of_another_kind_are_taken_with_their_own_options(capsys: pytest.CaptureFixture[str]) -> None:
    kinds = ["--model.discriminator.kind", "projected", "--model.generator.kind=stylegan2"]
    dispatch(["train", "cifar10-tiny", *kinds, "--model.discriminator.width", "32", "--dry-run"])
    model = json.JSONDecoder().raw_decode(capsys.readouterr().out)[0]["model"]
    assert model["discriminator"] == ProjectedDiscriminatorConfig(width=32).model_dump()
    assert model["generator"] == StyleGAN2GeneratorConfig().model_dump()
    assert (
        error_of("train", "cifar10-tiny", *kinds, "--model.discriminator.dim", 8).parameter != "model.discriminator.dim"
    )
    wrong = error_of("train", "cifar10-tiny", "--model.discriminator.kind", "inr")
    assert wrong.parameter == "model.discriminator.kind"


def test_env_says_what_is_installed(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["env"])
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows["torch"] == torch.__version__
    assert f"{torch.get_num_threads()} threads" in rows["processor"]


HELP = [
    [],
    *[[name] for name in COMMANDS],
    *[
        [group, name]
        for group in ("data", "explore", "export")
        for name in getattr(import_module(f"vitgan.cli.{group}"), group).commands
    ],
    ["train", "quickstart"],
]


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_help_is_readable_in_80_columns(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as end:
        dispatch([*words, "--help"])
    assert end.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    if len(words) == 2 and words[0] in ("explore", "export"):
        assert any(f"vitgan {' '.join(words)} " in line for line in lines)  # an example


TELLING = [*([name, "--help"] for name in COMMANDS), ["--help"], ["explore", "zoom", "--help"], ["info"]]


def test_what_only_tells_does_not_import_torch(run: Path) -> None:
    code = f"""
import contextlib, sys
from vitgan.cli.main import dispatch

for words in {[*TELLING, ["info", str(run)]]}:
    with contextlib.suppress(SystemExit):
        dispatch(words)
    if "torch" in sys.modules:
        sys.exit(f"torch is imported by {{words}}")
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["data", "folder", "--source", "LONG", "--resolution", "8", "--out", "out"],
        ["data", "verify", "LONG"],
        ["train", "quickstart", "--data", "LONG"],
    ],
    ids=" ".join,
)
def test_names_too_long_for_the_system_are_told_in_one_line(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vitgan", *("x" * 300 if word == "LONG" else word for word in arguments)])
    monkeypatch.setattr("vitgan.cli.main.make_output_safe", lambda: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("allocate", [bytearray, np.empty, torch.empty])
def test_too_little_memory_is_told_in_one_line(
    allocate: Callable[[int], object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vitgan.cli.main.dispatch", lambda arguments: allocate(1 << 55))
    monkeypatch.setattr("vitgan.cli.main.make_output_safe", lambda: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
