"""Checkpoints are whole or absent, and say what is wrong with them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import vitgan
from refusals import refused
from tiny import newest, tiny_run
from vitgan.explore.attention import load_discriminator
from vitgan.pretrained import generators
from vitgan.pretrained.generators import locate
from vitgan.runs.provenance import provenance
from vitgan.runs.sources import is_model
from vitgan.training import checkpoint
from vitgan.training.checkpoint import (
    FORMAT_VERSION,
    checkpoint_name,
    checkpoints,
    latest_checkpoint,
    verify_checkpoint,
)
from vitgan.training.retention import prune_checkpoints, remove_leftovers


@pytest.fixture(scope="module")
def run(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vitgan.train(tiny_run(store, total_kimg=0.008), tmp_path_factory.mktemp("run"))


def test_names_sort_by_images() -> None:
    counts = [0, 999, 1000, 200_064, 999_999, 25_000_000]
    names = [checkpoint_name(count) for count in counts]
    assert names == sorted(names)
    assert names[3] == "000200k064"


@pytest.mark.parametrize("name", ["generator.safetensors", "optimizers.safetensors", "state.json"])
def test_missing_file_is_named(run: Path, tmp_path: Path, name: str) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    folder = newest(copy)
    (folder / name).unlink()
    assert latest_checkpoint(copy) is None
    with refused(name):
        verify_checkpoint(folder)


def test_damage_and_unknown_format_are_told(run: Path, tmp_path: Path) -> None:
    folder = newest(shutil.copytree(run, tmp_path / "copy"))
    path = folder / "generator_ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with refused(path):
        verify_checkpoint(folder)
    state = folder / "state.json"
    state.write_text(state.read_text().replace(f'"format_version": {FORMAT_VERSION}', '"format_version": 99'))
    with refused(folder, 99, FORMAT_VERSION):
        verify_checkpoint(folder)


def test_model_folder_round_trip(run: Path, tmp_path: Path) -> None:
    generator = vitgan.load(run)
    vitgan.save(generator, tmp_path / "model")
    again = vitgan.load(tmp_path / "model")
    assert again.sample(3, seed=1, truncation=0.5).equal(generator.sample(3, seed=1, truncation=0.5))
    of_checkpoint = vitgan.load(newest(run))
    assert of_checkpoint.sample(3).equal(generator.sample(3))


def test_not_a_model(tmp_path: Path) -> None:
    with refused(tmp_path / "nothing"):
        vitgan.load(tmp_path / "nothing")
    with refused(tmp_path, "model.safetensors", "config.json"):
        vitgan.load(tmp_path)


def test_a_run_in_training_can_be_loaded(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its only checkpoint makes room for the next one while it is verified, and again before its weights are read."""
    copy = shutil.copytree(run, tmp_path / "copy")
    names = iter(["000000k009", "000000k010"])

    def makes_room(real: Callable) -> Callable:
        def replaced_at_first(*arguments: object) -> object:
            if name := next(names, None):
                (folder,) = checkpoints(copy)
                folder.rename(folder.with_name(name))
            return real(*arguments)

        return replaced_at_first

    monkeypatch.setattr(checkpoint, "is_whole", makes_room(checkpoint.is_whole))
    assert newest(copy).name == "000000k010"
    names = iter(["000000k011"])
    monkeypatch.setattr(generators, "load_weights", makes_room(generators.load_weights))
    monkeypatch.setattr(checkpoint, "is_whole", lambda folder: True)
    assert vitgan.load(copy).sample(1).equal(vitgan.load(run).sample(1))
    assert newest(copy).name == "000000k011"


def test_pruning_removes_checkpoints_and_nothing_that_somebody_put_there(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store, total_kimg=0.032, keep_checkpoints=0), tmp_path / "runs")
    first, second, third, last = checkpoints(run)
    (first / "notes.txt").write_text("mine")
    shutil.copytree(second, second.with_name("000000k016-best"))
    shutil.copytree(second, second.with_name("000000k001"))  # looks like one of ours
    shutil.move(third, tmp_path / "elsewhere")
    third.symlink_to(tmp_path / "elsewhere")
    kept = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file() and p.parent != second}
    prune_checkpoints(run, 1, last.name)
    assert not second.exists()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == kept
    assert third.is_symlink()
    assert last.is_dir()


def test_what_is_cut_short_or_newer_than_the_run_is_not_counted(store: str, tmp_path: Path) -> None:
    run = vitgan.train(tiny_run(store, total_kimg=0.016, keep_checkpoints=0), tmp_path / "runs")
    first, last = checkpoints(run)
    file = last / "discriminator.safetensors"
    sound = file.read_bytes()
    file.write_bytes(sound[:-1])
    prune_checkpoints(run, 1, last.name)
    assert checkpoints(run) == [first, last]
    file.write_bytes(sound[:-1] + bytes([sound[-1] ^ 1]))  # which only loading sees: the run stands at the first
    prune_checkpoints(run, 1, first.name)
    assert checkpoints(run) == [first, last]
    file.write_bytes(sound)
    prune_checkpoints(run, 1, last.name)
    assert checkpoints(run) == [last]


def test_leftovers_are_removed_by_their_names_one_by_one(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "copy")
    place = copy / "checkpoints"
    before = set(place.rglob("*"))
    for name in (".000000k012.part", ".000000k004.removed.part"):
        (place / name).mkdir()
        for file in ("generator.safetensors", ".optimizers.safetensors.part"):
            (place / name / file).write_text("half")
    (place / ".my1k2.part").mkdir()
    (place / ".my1k2.part" / "generator.safetensors").write_text("mine")
    (place / ".000000k016.part").mkdir()
    (place / ".000000k016.part" / "notes").write_text("mine")
    remove_leftovers(copy)
    left = {p.relative_to(place).as_posix() for p in place.rglob("*")} - {
        p.relative_to(place).as_posix() for p in before
    }
    assert left == {
        ".my1k2.part",
        ".my1k2.part/generator.safetensors",
        ".000000k016.part",
        ".000000k016.part/notes",
    }


def test_half_written_grids_are_removed_and_other_pictures_stay(tmp_path: Path) -> None:
    samples = tmp_path / "samples"
    samples.mkdir()
    for name in (".000000k040.2556.part.png", ".mine.1.part.png", "000000k040.png"):
        (samples / name).write_text("picture")
    remove_leftovers(tmp_path)
    assert {path.name for path in samples.iterdir()} == {".mine.1.part.png", "000000k040.png"}


def test_a_checkpoint_is_the_same_from_everywhere(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = shutil.copytree(run, tmp_path / "run")
    folder, expected = newest(run), vitgan.load(run).sample(1)
    (tmp_path / "best").symlink_to(folder)
    shutil.copytree(run, tmp_path / "linked")
    shutil.move(tmp_path / "linked" / "checkpoints", tmp_path / "large disk")
    (tmp_path / "linked" / "checkpoints").symlink_to(tmp_path / "large disk")
    for place, name in (
        (folder, "."),
        (folder, "../" + folder.name),
        (folder, "../.."),
        (folder.parent, folder.name),
        (folder.parent, f"./{folder.name}/"),
        (run, "."),
        (run, f"checkpoints/{folder.name}"),
        (tmp_path, "best"),
        (tmp_path, f"linked/checkpoints/{folder.name}"),
        (tmp_path, "linked"),
    ):
        monkeypatch.chdir(place)
        assert vitgan.load(name).sample(1).equal(expected), (place, name)
        assert load_discriminator(Path(name)).training is False
        assert is_model(Path(name))
        assert provenance(locate(name)[0].parent).startswith("Preset")
