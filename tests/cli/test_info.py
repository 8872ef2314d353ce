"""`vitgan info` beyond the list that test_main looks at: a bundled model is said to be trained as its card says."""

import re
from pathlib import Path

import pytest

import vitgan
from generators import make
from tiny import newest, tiny_run
from vitgan.cli.main import dispatch
from vitgan.cli.preset_texts import NAMES as PRESET_NAMES
from vitgan.errors import UserError
from vitgan.models.build import GeneratorSpec, build_generator
from vitgan.models.vit_generator import ViTGeneratorConfig
from vitgan.presets import preset
from vitgan.pretrained.generators import save
from vitgan.pretrained.names import WEIGHTS, bundled_models


@pytest.mark.parametrize("name", bundled_models())
def test_a_bundled_models_preset_is_its_own(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info", name])
    shown = capsys.readouterr().out.split("model ", 1)[-1] if name in PRESET_NAMES else capsys.readouterr().out
    card = (bundled_models()[name] / "README.md").read_text(encoding="utf-8")
    said = re.search(r"Preset `([\w-]+)`", card)
    assert said is not None
    assert re.findall(r"[Pp]reset `?([\w-]+)", shown) == [said[1]]
    assert "trained with it" not in shown


@pytest.mark.parametrize("name", ["cifar10", "fashion-mnist"])
def test_a_path_comes_before_a_preset_or_bundled_model_of_its_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    generator = make("vit")
    save(generator, name)
    dispatch(["info", name])
    shown = capsys.readouterr().out
    assert shown.startswith(f"model {Path(name) / WEIGHTS}\n")
    assert f" {sum(p.numel() for p in generator.parameters()):,}\n" in shown


def test_a_folder_of_a_presets_name_that_is_no_model_does_not_hide_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cifar10-gat").mkdir()  # a store, say
    dispatch(["info", "cifar10-gat"])
    assert capsys.readouterr().out.startswith("preset cifar10-gat")


def test_a_generator_is_shown_whatever_discriminators_would_say_of_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A model folder has no discriminator, whose default has patches of 4."""
    sizes = ViTGeneratorConfig(patch_size=5, dim=16, depth=1, num_heads=2, z_dim=8, w_dim=8, inr_dim=8)
    generator = build_generator(GeneratorSpec(resolution=30, generator=sizes))
    dispatch(["info", str(save(generator, tmp_path / "odd"))])
    assert f" {sum(p.numel() for p in generator.parameters()):,}\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["cifar10", "cifar10-tiny-projected", "lsun256-gat", "heads"])
def test_networks_are_a_table_that_fits_80_columns(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info", name])
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(index for index, line in enumerate(lines) if line.endswith(("generator", "discriminator"))) :]
    assert {"kind", "parameters", "depth", "z_dim"} <= {line.split("  ")[0] for line in table}
    assert all(len(line) <= 80 for line in table if not line.startswith(("its card", "model ")))


@pytest.mark.parametrize("columns", [80, 200])
@pytest.mark.parametrize("words", [[], ["cifar10"], ["imagenet256-gat-xl"]])
def test_texts_fit_the_terminal(
    words: list[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    dispatch(["info", *words])
    for line in capsys.readouterr().out.splitlines():
        assert len(line) < columns or "/" in line.split()[-1], line


def test_what_does_nothing_is_not_shown_and_latents_are_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    dispatch(["info", "imagenet256-gat-xl"])
    shown = capsys.readouterr().out
    assert "RGB" not in shown
    assert "latents of 4 channels" in shown
    assert "gate_bias" in shown
    assert "inr_dim" not in shown
    assert "alignment_size" not in shown


def test_a_folder_of_runs_beside_a_name_does_nothing() -> None:
    with pytest.raises(UserError) as error:
        dispatch(["info", "cifar10", "--runs", "elsewhere"])
    assert error.value.parameter == "runs"


def test_a_damaged_record_of_the_best_hides_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(preset("cifar10").model_dump_json(), "utf-8")
    (tmp_path / "best.json").write_text('{"checkpoint": 3', "utf-8")
    dispatch(["info", str(tmp_path)])
    shown = capsys.readouterr().out
    assert "best.json" in shown
    assert f"vitgan train --resume {tmp_path}" in shown


def test_a_run_whose_minutes_are_limited_says_how_many_are_spent(
    store: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tiny_run(store, max_minutes=1e-9, total_kimg=1, max_cpu_minutes=600)
    run = vitgan.train(config, tmp_path / "runs")
    dispatch(["info", str(run)])
    assert re.search(
        r"trained +0\.0 of 1 kimg, \d\.\d of 1e-09 minutes, \d\.\d of 600 CPU minutes", capsys.readouterr().out
    )
    state = newest(run) / "state.json"
    state.write_text(state.read_text()[:20])
    dispatch(["info", str(run)])
    assert re.search(r"trained +0\.0 of 1 kimg\n", capsys.readouterr().out)
