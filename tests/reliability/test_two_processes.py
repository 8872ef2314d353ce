"""Two processes: what one would do, and an end in bounded time when one of them dies."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from refusals import refused
from reliability.children import ENVIRONMENT, Children, Job
from tiny import TINY_OVERRIDES, newest, tiny_run
from vitgan.presets import replaced
from vitgan.runs.processes import join_processes
from vitgan.training.checkpoint import read_manifest
from vitgan.training.log import read_metrics

RUN = "00000-store"


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@pytest.mark.parametrize("adaptive", [None, 0.1])
def test_two_at_half_the_batch_take_the_step_of_one(
    children: Children, store: str, tmp_path: Path, adaptive: float | None
) -> None:
    """Adam's first moment at beta1 = 0 is the gradient: averaged over two processes it is that of the whole batch."""
    run = tiny_run(store, total_kimg=0.004, horizontal_flip=True)
    config = replaced(run, augment=replaced(run.augment, adaptive=adaptive)).model_dump(mode="json")
    found, averages = [], []
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        folder.mkdir()
        job = Job("train", str(folder), config, processes=processes, port=free_port())
        assert children.run(job) == [0] * processes, (folder / "log0").read_text()
        checkpoint = newest(folder / RUN)
        found.append(load_file(checkpoint / "optimizers.safetensors"))
        averages.append(load_file(checkpoint / "objective.safetensors"))
    assert averages[0] == averages[1]
    assert ("probability" in averages[0]) == (adaptive is not None)
    gradients = [name for name in found[0] if name.startswith("discriminator/") and name.endswith("/exp_avg")]
    scale = max(float(found[0][name].abs().max()) for name in gradients)
    assert len(gradients) > 10
    for name in gradients:
        torch.testing.assert_close(found[1][name], found[0][name], rtol=1e-4, atol=1e-5 * scale)


def test_two_end_by_the_minutes_at_the_same_step(children: Children, store: str, tmp_path: Path) -> None:
    """Each has its own clock; if one went on, it would wait for the other's gradients for half an hour."""
    config = tiny_run(store, total_kimg=1000, max_minutes=0.01, lr_decay=1, log_every_kimg=1e6)
    job = Job("train", str(tmp_path), config.model_dump(mode="json"), processes=2, port=free_port())
    assert children.run(job) == [0, 0], (tmp_path / "log0").read_text()
    reached = read_manifest(newest(tmp_path / RUN))
    assert reached.wall_seconds >= 0.01 * 60  # the main process's, without its grids: the same command does no more
    assert read_metrics(tmp_path / RUN / "metrics.jsonl")[-1]["images"] == reached.images_seen


def processes_of(parent: int) -> list[int]:
    """Children of a process, by /proc."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(path.parent.name))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes by /proc")
def test_rank_killed_under_torchrun_ends_the_other_in_bounded_time(
    children: Children, store: str, tmp_path: Path
) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    launcher += [
        "--master_addr",
        "127.0.0.1",
        "--master_port",
        str(free_port()),
        "-m",
        "vitgan",
        "train",
        "cifar10-tiny",
    ]
    options = [*TINY_OVERRIDES, "--training.trackers", "--data", store]
    options += ["--training.total-kimg", "1000", "--out", str(tmp_path)]
    log = tmp_path / "output"
    with log.open("w") as output:
        process = subprocess.Popen([*launcher, *options], stdout=output, stderr=output, env=os.environ | ENVIRONMENT)
    try:
        run = tmp_path / "00000-cifar10-tiny"
        deadline = time.monotonic() + 120
        while not list(run.glob("checkpoints/[0-9]*")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        workers = processes_of(process.pid)
        assert len(workers) == 2
        os.kill(workers[1], signal.SIGKILL)
        assert process.wait(timeout=60) != 0
        assert [path.name for path in tmp_path.glob("0*")] == [run.name]
        assert "process 0 of 2" in log.read_text()
        assert f"--resume {run}" in log.read_text()
        assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    finally:
        process.kill()
        process.wait()
    images = int(newest(run).name.replace("k", "")) + 4
    from vitgan.runs.folder import config_of_run

    config = config_of_run(run).model_dump(mode="json")
    assert config["training"]["device"] == "auto"
    config["training"]["total_kimg"] = images / 1000
    (tmp_path / "resumed").mkdir()
    job = Job("train", str(tmp_path / "resumed"), config, resume=str(run), processes=2, port=free_port())
    assert children.run(job) == [0, 0], (tmp_path / "resumed" / "log0").read_text()
    assert int(newest(run).name.replace("k", "")) == images


def in_two(children: Children, folder: Path, *arguments: str) -> tuple[list[int], list[str]]:
    """Exit codes and outputs of two processes of the command line."""
    folder.mkdir()
    job = Job("command", str(folder), arguments=[*arguments], processes=2, port=free_port())
    codes = children.run(job)
    return codes, [(folder / f"log{rank}").read_text() for rank in range(2)]


def test_two_processes_make_one_run_of_which_one_speaks(children: Children, store: str, tmp_path: Path) -> None:
    """Where there is no GPU, and nobody has said so."""
    options = ["train", "cifar10-tiny", *TINY_OVERRIDES, "--data", store, "--out", str(tmp_path / "runs")]
    codes, logs = in_two(children, tmp_path / "log", *options)
    assert codes == [0, 0], logs
    assert len(list((tmp_path / "runs").glob("0*"))) == 1
    assert logs[0].count("trained: ") == 1
    assert logs[1] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "cifar10-tiny", *TINY_OVERRIDES, "--training.batch-size", "15"], "cannot be shared by 2 processes"),
        (["train", "cifar10-tiny", *TINY_OVERRIDES, "--data", "nowhere"], "no image store at nowhere"),
        (["train", "cifar10-tiny", "--training.seed", "-1"], "--training.seed"),
        (["sample", "fashion-mnist"], "work for one process"),
        (["nothing"], "unknown command"),
    ],
)
def test_mistake_of_two_processes_is_told_once(
    children: Children, store: str, tmp_path: Path, arguments: list[str], message: str
) -> None:
    if "--data" not in arguments and arguments[0] == "train":
        arguments = [*arguments, "--data", store]
    extra = ["--out", str(tmp_path / "runs")] if arguments[0] == "train" else []
    codes, logs = in_two(children, tmp_path / "log", *arguments, *extra)
    assert codes == [2, 2], logs
    assert message in logs[0]
    assert logs[0].count("\n") == 1
    assert logs[1] == ""
    assert not (tmp_path / "runs").exists()


def test_gpus_that_are_too_few_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 1)
    with refused(parameter="training.device"):
        join_processes("auto")
