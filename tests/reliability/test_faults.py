"""Disks, folders, devices and stores that fail: one clear line each, and nothing that was whole is lost."""

import errno
import fcntl
import io
import json
import os
import re
import shlex
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock, Timeout

import vitgan
import vitgan.files
from refusals import check_refusal, refused
from reliability.torture import content
from tiny import newest, tiny_run, write_images
from vitgan.cli.main import dispatch
from vitgan.data.bundled import bundled_fashion_mnist
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.devices import lacks_memory
from vitgan.errors import UserError
from vitgan.models.stylegan2_discriminator import StyleGAN2DiscriminatorConfig
from vitgan.presets import replaced, with_model
from vitgan.runs.folder import LOCK, new_run
from vitgan.runs.memory import smaller_micro_batch
from vitgan.training.checkpoint import FORMAT_VERSION, checkpoints, latest_checkpoint, verify_checkpoint
from vitgan.training.hooks import Hooks
from vitgan.training.step import GanStep


@pytest.fixture(scope="module")
def finished(store: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return vitgan.train(tiny_run(store), tmp_path_factory.mktemp("finished"))


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def parts_left(run: Path) -> list[Path]:
    return list(run.rglob("*.part"))


def test_full_disk_at_any_write_is_one_line_and_the_run_goes_on_exactly(
    store: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ENOSPC at the n-th time that something is forced to the disk, for n over the whole run."""
    config, fsync = tiny_run(store), os.fsync
    calls = 0

    def count(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", count)
    expected, fails_at = content(finished), 3  # the first two writes make the run's folder
    while True:
        calls, out = 0, tmp_path / str(fails_at)
        try:
            run = vitgan.train(config, out)
        except UserError as error:
            run = out / "00000-store"
            check_refusal(error, cause=errno.ENOSPC)
            assert all(verify_checkpoint(folder) for folder in checkpoints(run))
            assert not parts_left(run)
        if calls < fails_at:
            break
        fails_at_before, fails_at = fails_at, -1
        vitgan.train(config, resume=run)
        assert content(run) == expected
        fails_at = fails_at_before + 4
    assert fails_at > 30


def test_file_size_limit_gives_short_writes(store: str, tmp_path: Path) -> None:
    """The system itself writes a part of the file, then refuses: as on a disk that fills up."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run = vitgan.train(tiny_run(store, total_kimg=0.008), tmp_path)
    before = content(run)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with refused(f"vitgan train --resume {run}", cause=errno.EFBIG):
            vitgan.train(tiny_run(store), resume=run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not parts_left(run)
    assert newest(run).name == "000000k008"
    checkpoint = "checkpoints/000000k008/generator.safetensors"
    assert content(run)[checkpoint] == before[checkpoint]
    vitgan.train(tiny_run(store), resume=run)


class Forgetful(io.BufferedWriter):
    """A disk that says it has written all, and has not."""

    def write(self, data: Any, /) -> int:
        super().write(bytes(data)[:-7])
        return len(data)


def test_bytes_that_a_disk_swallowed_are_noticed(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = vitgan.train(tiny_run(store, total_kimg=0.016), tmp_path)
    path_open = Path.open

    def forgetful(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        if mode == "wb" and "generator.safetensors" in self.name and "000000k024" in str(self):
            return Forgetful(io.FileIO(str(self), "w"))
        return path_open(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", forgetful)
    vitgan.train(tiny_run(store), resume=run)
    monkeypatch.undo()
    assert newest(run).name == "000000k016"
    with refused(run / "checkpoints" / "000000k024" / "generator.safetensors"):
        verify_checkpoint(run / "checkpoints" / "000000k024")


def damages(data: bytes) -> Iterator[bytes]:
    """Flips in every part of a file (start, header, middle, end), truncations, zeros, and bytes too many."""
    for place in sorted({0, 1, 7, 8, 9, 40, len(data) // 3, len(data) // 2, len(data) - 2, len(data) - 1}):
        for bit in (0x01, 0x10, 0x80):
            yield data[:place] + bytes([data[place] ^ bit]) + data[place + 1 :]
    for length in (0, 1, 8, len(data) // 2, len(data) - 1):
        yield data[:length]
    yield bytes(len(data))
    yield data + b"\0"


def test_damage_of_every_kind_in_every_file_is_noticed(run: Path) -> None:
    folder = newest(run)
    before = checkpoints(run)[-2]
    count = 0
    for path in sorted(folder.iterdir()):
        sound = path.read_bytes()
        original = json.loads(sound) if path.suffix == ".json" else None
        for damaged in damages(sound):
            path.write_bytes(damaged)
            if original is not None and _same_json(damaged, original):
                continue  # a blank for a blank
            assert latest_checkpoint(run) == before, path
            with refused(path.name):
                verify_checkpoint(folder)
            count += 1
        path.write_bytes(sound)
    assert latest_checkpoint(run) == folder
    assert count > 150


def _same_json(data: bytes, value: Any) -> bool:
    try:
        return json.loads(data) == value
    except ValueError:
        return False


def test_damaged_checkpoint_is_told_and_all_damaged_name_the_file(run: Path, store: str) -> None:
    path = newest(run) / "discriminator.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    notices: list[str] = []
    vitgan.train(tiny_run(store), resume=run, hooks=Hooks(on_notice=notices.append))
    assert len(notices) == 1
    assert str(path) in notices[0]
    for folder in checkpoints(run):
        (folder / "generator.safetensors").write_bytes(b"")
    path = checkpoints(run)[-1] / "generator.safetensors"
    with refused(path, parameter="resume"):
        dispatch(["train", "--resume", str(run)])
    with refused(path):
        dispatch(["sample", str(run)])


def test_runs_that_start_at_the_same_instant_get_numbers_of_their_own(store: str, tmp_path: Path) -> None:
    config = tiny_run(store)
    together = threading.Barrier(8)

    def start(number: int) -> str:
        together.wait()
        return new_run(tmp_path, config.model_copy(update={"preset": ("cifar10", "lsun128")[number % 2]})).name

    with ThreadPoolExecutor(8) as threads:
        for _ in range(6):
            list(threads.map(start, range(8)))
    numbers = sorted(int(path.parent.name[:5]) for path in tmp_path.glob("*/config.json"))
    assert numbers == list(range(48))


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_file_system_without_locks_is_refused(
    run: Path, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Rather than guarded by a file that a killed process leaves behind."""

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = sorted(run.iterdir())
    with refused(run, cause=number):
        dispatch(["train", "--resume", str(run)])
    assert sorted(run.iterdir()) == before
    with refused(parameter="out", cause=number):
        vitgan.train(tiny_run(store), tmp_path / "runs")
    with refused(tmp_path / "store"):
        prepare(ImageFolder(write_images(tmp_path / "images")), tmp_path / "store", resolution=8, workers=0)
    with refused(tmp_path / "cache", "VITGAN_CACHE"):
        bundled_fashion_mnist(tmp_path / "cache")


def test_second_process_on_a_run_is_refused(run: Path) -> None:
    with FileLock(run / LOCK), refused(run, cause=Timeout):
        dispatch(["train", "--resume", str(run)])
    dispatch(["train", "--resume", str(run)])  # free again


def test_store_that_changed_is_refused(tmp_path: Path) -> None:
    images, folder = write_images(tmp_path / "images"), tmp_path / "store"
    prepare(ImageFolder(images), folder, resolution=8, workers=0)
    run = vitgan.train(tiny_run(str(folder)), tmp_path / "runs")
    (images / "00.png").unlink()
    prepare(ImageFolder(images), folder, resolution=8, workers=0, overwrite=True)
    with refused(run, folder, parameter="data"):
        dispatch(["train", "--resume", str(run)])


def test_store_whose_bytes_changed_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    prepare(ImageFolder(write_images(tmp_path / "images")), folder, resolution=8, workers=0)
    run = vitgan.train(tiny_run(str(folder)), tmp_path / "runs")
    array = np.load(folder / "images.npy", mmap_mode="r+")
    array[3, 0, 0, 0] ^= 1
    array.flush()
    with refused(folder):
        dispatch(["train", "--resume", str(run)])
    with refused(folder):  # nor does a run begin that could not go on
        vitgan.train(tiny_run(str(folder)), tmp_path / "others")
    assert not (tmp_path / "others").exists()


@pytest.mark.parametrize(("version", "age"), [(FORMAT_VERSION - 1, "an older"), (FORMAT_VERSION + 1, "a newer")])
def test_checkpoints_of_other_formats_are_told(run: Path, version: int, age: str) -> None:
    for folder in checkpoints(run):
        state = json.loads((folder / "state.json").read_text())
        state |= {"format_version": version, "something": "that this version does not know"}
        (folder / "state.json").write_text(json.dumps(state))
    for words, parameter in ((["train", "--resume"], "resume"), (["sample"], None)):
        with refused(version, FORMAT_VERSION, age, parameter=parameter):
            dispatch([*words, str(run)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_missing_gpu_is_told(run: Path) -> None:
    for device in ("cuda", "nonsense"):
        with refused(device, parameter="device"):
            dispatch(["sample", str(run), "--device", device])


def test_clock_that_goes_back_changes_nothing(
    store: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(2_000_000_000, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(now)))
    run = vitgan.train(tiny_run(store), tmp_path)
    assert content(run) == content(finished)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="root is needed to become someone else")
def test_read_only_folder_is_told(finished: Path, store: str) -> None:
    """As a user who may read the run and not write it."""
    with tempfile.TemporaryDirectory() as parent:
        Path(parent).chmod(0o755)
        run = shutil.copytree(finished, Path(parent) / "run")
        images = shutil.copytree(store, Path(parent) / "store")
        (run / LOCK).unlink()
        config = json.loads((run / "config.json").read_text()) | {"data": str(images)}
        (run / "config.json").write_text(json.dumps(config))
        os.seteuid(65534)
        try:
            with refused(run, cause=PermissionError):
                dispatch(["train", "--resume", str(run)])
            with refused(parent, parameter="out"):
                vitgan.train(tiny_run(str(images)), parent)
            grid = str(Path(parent) / "grid.png")
            with refused(grid):
                dispatch(["sample", str(run), "--count", "1", "--grid", grid])
            with refused(Path(parent) / "model"):
                vitgan.save(vitgan.load(run), Path(parent) / "model")
        finally:
            os.seteuid(0)


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has less.")


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUBLAS_STATUS_ALLOC_FAILED"),
        MemoryError(),
    ],
)
def test_lack_of_memory_is_known_on_every_device(error: Exception) -> None:
    assert lacks_memory(error)


@pytest.mark.parametrize(
    ("training", "objective", "option"),
    [
        ({}, {}, "--training.micro-batch-size 2"),
        ({"micro_batch_size": 1}, {}, "--training.checkpoint-activations"),
        ({}, {"lecam": 1.0}, "--training.checkpoint-activations"),
        ({"micro_batch_size": 1, "checkpoint_activations": True}, {}, "--training.device cpu"),
    ],
)
def test_memory_that_does_not_suffice_is_one_line_with_options_that_go_on(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, training, objective, option: str
) -> None:
    """Raised in the third step, behind the first checkpoint; the command in the line is then taken at its word."""
    take = GanStep.__call__

    def step(self: GanStep, *arguments: Any) -> Any:
        if self.state.step == 3:
            raise NO_MEMORY
        return take(self, *arguments)

    config = tiny_run(store, **training)
    config = replaced(config, objective=replaced(config.objective, **objective))
    monkeypatch.setattr(GanStep, "__call__", step)
    with pytest.raises(UserError) as caught:
        vitgan.train(config, tmp_path / "runs")
    line = str(caught.value)
    for part in (f"batch_size {config.training.batch_size}", "micro_batch_size", "checkpoint_activations", option):
        assert part in line
    assert "\n" not in line
    monkeypatch.undo()
    words = re.search("`vitgan ([^`]*)`", line)
    assert words is not None
    dispatch(shlex.split(words[1]))
    assert newest(tmp_path / "runs" / "00000-store").name == "000000k024"


def test_memory_that_does_not_suffice_for_the_networks_offers_nothing_to_go_on_with(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def build(*_: object) -> None:
        raise NO_MEMORY

    monkeypatch.setattr("vitgan.training.loop.build_generator", build)
    with pytest.raises(UserError) as caught:
        vitgan.train(tiny_run(store), tmp_path / "runs")
    check_refusal(caught.value, parameter="model")
    assert "--resume" not in str(caught.value)


def test_micro_batches_that_are_offered_keep_groups_of_compared_images(store: str) -> None:
    config = with_model(tiny_run(store, batch_size=24), discriminator=StyleGAN2DiscriminatorConfig(channel_base=64))
    assert smaller_micro_batch(config, share=24) == 12
    assert smaller_micro_batch(config, share=8) == 4
    assert smaller_micro_batch(config, share=4) is None


def test_any_other_error_of_torch_is_no_users_error(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(*_: object) -> None:
        raise RuntimeError("shapes")

    monkeypatch.setattr(GanStep, "__call__", step)
    with pytest.raises(RuntimeError, match=r"^shapes$"):
        vitgan.train(tiny_run(store), tmp_path / "runs")
