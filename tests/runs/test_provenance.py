"""What a card says of a run is what the run's files say."""

import json
import re
from pathlib import Path

import pytest

import vitgan
from tiny import newest, tiny_run, write_images
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.presets import cifar10_tiny, preset, replaced
from vitgan.runs.provenance import changes_to_preset, provenance


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provenance")
    prepare(ImageFolder(write_images(folder / "images", 12)), folder / "pictures", resolution=8, workers=0)
    return vitgan.train(tiny_run(str(folder / "pictures"), seed=7), out=folder / "runs")


def test_images_steps_seed_and_data_are_those_of_the_run(run: Path) -> None:
    said = provenance(newest(run))
    record = json.loads((run / "data.json").read_text())
    assert "24 images drawn from the 12 images of `pictures`" in said
    assert record["sha256"][:12] in said
    assert "in 6 steps of 4, seed 7, no flips" in said
    earlier = newest(run).with_name("000000k016")
    assert "16 images drawn" in provenance(earlier)
    assert "in 4 steps of 4" in provenance(earlier)


def test_processor_time_is_the_logs_up_to_the_checkpoint(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    (copy / "checkpoints" / "000000k016").mkdir(parents=True)
    (copy / "config.json").write_bytes((run / "config.json").read_bytes())
    records = [{"images": 8, "step": 2, "cpu_seconds": 3600}, {"images": 16, "step": 4, "cpu_seconds": 1800}]
    records += [{"images": 16, "step": 4, "evaluation/FD": 3}, {"images": 24, "step": 6, "cpu_seconds": 99999}]
    (copy / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert re.search(r"\b1\.5 hours of one processor", provenance(copy / "checkpoints" / "000000k016"))


def test_a_folder_that_is_no_checkpoint_has_no_history(tmp_path: Path) -> None:
    assert provenance(tmp_path) == ""


def test_changes_are_told_as_options_that_give_the_same_run() -> None:
    base = preset("cifar10-tiny")
    assert changes_to_preset(base) == []
    changed = replaced(
        base,
        data="elsewhere",
        augment=replaced(base.augment, scaling=0.0, color=False),
        training=replaced(base.training, batch_size=8, total_kimg=3.0, samples_every_kimg=1.0),
    )
    assert changes_to_preset(changed) == ["--augment.no-color", "--augment.scaling 0.0", "--training.batch-size 8"]
    assert changes_to_preset(replaced(cifar10_tiny(), preset="custom")) == []


def test_no_folder_of_this_machine_is_told(tmp_path: Path) -> None:
    """A card is for others: not where the VAE is, nor the run that this one started from."""
    base = preset("cifar10-tiny", **{"training.horizontal_flip": False})
    vae = VaeSpec(name=str(tmp_path / "vae"), sha256="0" * 64, factor=2, channels=3, shift=(0.0,) * 3, scale=(1.0,) * 3)
    changed = replaced(base, model=replaced(base.model, vae=vae), init_from=str(tmp_path / "runs" / "00001-first"))
    assert changes_to_preset(changed) == ["--init-from 00001-first", "--training.no-horizontal-flip"]
