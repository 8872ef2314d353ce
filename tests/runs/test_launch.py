"""What a launcher says in the environment: believed where it is whole, told in one line where it is not."""

from types import SimpleNamespace

import pytest

from refusals import refused
from vitgan.errors import ProcessError
from vitgan.runs.processes import (
    MPI_SIZES,
    NAMES,
    join_processes,
    on_every_process,
    on_main_process,
    one_of_several,
    processes_started,
    speaks,
)

WHOLE = {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, *MPI_SIZES, "LOCAL_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)


def set_environment(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("leftover", [{}, {"RANK": "0"}, {"WORLD_SIZE": "1"}, {"RANK": "3", "MASTER_ADDR": "host"}])
def test_process_alone_is_alone_and_speaks(monkeypatch: pytest.MonkeyPatch, leftover: dict[str, str]) -> None:
    set_environment(monkeypatch, leftover)
    assert processes_started() == 1
    assert not one_of_several()
    assert speaks()


def test_torchrun_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    set_environment(monkeypatch, WHOLE | {"LOCAL_WORLD_SIZE": "2"})
    assert processes_started() == 4
    assert one_of_several()
    assert not speaks()
    monkeypatch.setenv("RANK", "0")
    assert speaks()


@pytest.mark.parametrize("missing", NAMES[1:])
def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    set_environment(monkeypatch, {name: value for name, value in WHOLE.items() if name != missing})
    with refused(missing, "torchrun", kind=ProcessError):
        join_processes("cpu")


@pytest.mark.parametrize(
    "nonsense",
    [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "0"}, {"RANK": "4"}, {"RANK": "-1"}, {"MASTER_PORT": "http"}],
)
def test_nonsense_is_told(monkeypatch: pytest.MonkeyPatch, nonsense: dict[str, str]) -> None:
    set_environment(monkeypatch, WHOLE | nonsense)
    with refused(*nonsense.values(), kind=ProcessError):  # which it says itself, whatever its rank
        join_processes("cpu")


def test_restarts_on_several_machines_that_would_hang_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    elastic = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_MAX_RESTARTS": "3", "GROUP_WORLD_SIZE": "2"}
    set_environment(monkeypatch, WHOLE | elastic)
    with refused("TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        join_processes("cpu")


@pytest.mark.parametrize("name", MPI_SIZES)
def test_mpi_makes_no_run_per_process(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "2")
    with refused(name, 2, "torchrun"):
        join_processes("cpu")


@pytest.mark.parametrize("agree", [on_every_process, on_main_process])
def test_a_process_that_died_before_all_agreed_is_told_in_one_line(agree, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_: list) -> list:
        raise RuntimeError("[pair.cc:534] Connection closed by peer\n[127.0.0.1]:1")

    monkeypatch.setattr("accelerate.utils.gather_object", lost)
    monkeypatch.setattr("accelerate.utils.broadcast_object_list", lost)
    two = SimpleNamespace(num_processes=2, process_index=1, is_main_process=False)
    with refused(1, 2, kind=ProcessError, cause=RuntimeError):
        agree(two, lambda: None)
