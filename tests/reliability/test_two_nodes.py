"""Two machines, which are this one twice: what one process would do, also when a process of one of them dies."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import vitgan
from reliability.children import ENVIRONMENT, Children, Job
from reliability.test_two_processes import free_port
from reliability.torture import content
from tiny import TINY_OVERRIDES, newest, tiny_run
from vitgan.errors import UserError
from vitgan.runs.folder import LOCK, config_of_run

ROUNDING = 1e-3
"""A parameter without a gradient but rounding's moves by the learning rate, 1e-4, in either direction."""


def records(run: Path) -> list[dict[str, float]]:
    """The log, without evaluations, and without attention entropies, which are of the main process's first images."""
    found = [record for record in content(run)["metrics.jsonl"] if "loss/generator" in record]
    return [{k: v for k, v in record.items() if not k.startswith("attention_entropy")} for record in found]


def layout(nodes: int) -> list[list[str]]:
    """torchrun's options for each node of two processes, on one machine."""
    port = str(free_port())
    if nodes == 1:
        return [["--nproc_per_node", "2", "--master_port", port]]
    meeting = ["--rdzv_backend", "c10d", "--rdzv_endpoint", f"127.0.0.1:{port}", "--rdzv_id", "two"]
    return [["--nnodes", "2", "--nproc_per_node", "1", *meeting] for _ in range(2)]


@pytest.mark.parametrize("nodes_count", [pytest.param(1, marks=pytest.mark.long), 2])
def test_a_worker_that_dies_comes_back_and_the_run_is_that_of_one_process(
    store: str, tmp_path: Path, nodes_count: int
) -> None:
    """Weights, averages, optimisers, spectral vectors and log; the same command begins the run and goes on with it."""
    run, mark = tmp_path / "run", tmp_path / "died"
    options = [*TINY_OVERRIDES, "--training.total-kimg", "0.024", "--data", store, "--folder", str(run)]
    options += ["--training.precision", "float32", "--training.learning-rate", "0.0001", "--training.trackers"]
    options += ["--training.discriminator-learning-rate", "0.0001", "--objective.loss", "non_saturating"]
    paths = os.pathsep.join([str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    nodes = []
    for number, launcher in enumerate(layout(nodes_count)):
        launcher += ["--max-restarts", "2", "-m", "reliability.dies_once", str(mark), "train", "cifar10-tiny", *options]
        command = [sys.executable, "-m", "torch.distributed.run", *launcher]
        log = (tmp_path / f"log{number}").open("w")
        environment = os.environ | ENVIRONMENT | {"PYTHONPATH": paths, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        nodes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True))
    try:
        codes = [node.wait(timeout=300) for node in nodes]
    finally:
        for node in nodes:
            node.terminate()  # which ends its workers too
    said = [log.read_text() for log in tmp_path.glob("log*")]
    assert set(codes) == {0}, said
    assert mark.exists()
    assert sum(text.count("trained: ") for text in said) == 1

    config = config_of_run(run)
    whole = vitgan.train(config, tmp_path / "whole")
    assert newest(run).name == newest(whole).name == "000000k024"
    assert [record["images"] for record in records(run)] == [4, 8, 12, 16, 20, 24]
    for found, expected in zip(records(run), records(whole), strict=True):
        assert found == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)
    for file in newest(whole).glob("*.safetensors"):
        expected, found = load_file(file), load_file(newest(run) / file.name)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=ROUNDING, atol=ROUNDING, msg=f"{file.name} {name}")


@pytest.mark.long
def test_accelerate_starts_the_same_run_on_two_machines(store: str, tmp_path: Path) -> None:
    """By the configuration of examples/, on CPUs."""
    run, port = tmp_path / "run", str(free_port())
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "examples/accelerate.yaml"]
    launch += ["--num_processes", "2", "--main_process_port", port]
    options = ["-m", "vitgan", "train", "cifar10-tiny", *TINY_OVERRIDES, "--data", store, "--folder", str(run)]
    options += ["--training.precision", "float32", "--training.learning-rate", "0.0001"]
    options += ["--training.discriminator-learning-rate", "0.0001", "--objective.loss", "non_saturating"]
    logs = [(tmp_path / f"log{rank}").open("w") for rank in range(2)]
    nodes = [
        subprocess.Popen(
            [*launch, "--machine_rank", str(rank), *options], stdout=log, stderr=log, env=os.environ | ENVIRONMENT
        )
        for rank, log in enumerate(logs)
    ]
    assert [node.wait(timeout=600) for node in nodes] == [0, 0], [Path(log.name).read_text() for log in logs]
    assert [record["images"] for record in records(run)] == [4, 8, 12]
    whole = vitgan.train(config_of_run(run), tmp_path / "whole")
    for found, expected in zip(records(run), records(whole), strict=True):
        assert found == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


def test_the_log_of_two_processes_is_that_of_one(children: Children, store: str, tmp_path: Path) -> None:
    """Means over the whole batch and over the steps of a record, not over the main process's share."""
    config = tiny_run(store, learning_rate=1e-4, log_every_kimg=0.012)
    job = Job("train", str(tmp_path), config.model_dump(mode="json"), processes=2, port=free_port())
    assert children.run(job) == [0, 0], (tmp_path / "log0").read_text()
    one, two = records(vitgan.train(config, tmp_path / "one")), records(tmp_path / "00000-store")
    assert [record["images"] for record in two] == [12, 24]
    for found, expected in zip(two, one, strict=True):
        assert found == pytest.approx(expected, rel=ROUNDING, abs=ROUNDING)


def test_the_same_call_begins_a_run_and_goes_on_with_it(store: str, tmp_path: Path) -> None:
    config, run = tiny_run(store), tmp_path / "mine"
    shorter = config.model_copy(update={"training": config.training.model_copy(update={"total_kimg": 0.008})})
    run.mkdir()
    for name in (LOCK, "config.json", ".config.json.part"):  # killed before its first step
        (run / name).write_text("{")
    assert vitgan.train(shorter, folder=run) == run
    assert newest(run).name == "000000k008"
    assert vitgan.train(config, folder=run) == run
    assert content(run)["metrics.jsonl"] == content(vitgan.train(config, tmp_path / "whole"))["metrics.jsonl"]
    assert vitgan.train(config, folder=run) == run  # it is done
    for name in ("notes", "config.json"):  # of which the second is no run's, but a configuration to start from
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("mine")
        with pytest.raises(UserError) as caught:
            vitgan.train(config, folder=tmp_path / name)
        assert caught.value.parameter == "folder"
        assert [path.read_text() for path in (tmp_path / name).iterdir()] == ["mine"]
    assert json.loads((run / "config.json").read_text())["training"]["total_kimg"] == 0.024
