"""The processes that share the work of a run: what torchrun says of them, how they meet, and what all must agree on.

What torchrun says in the environment is read before torch is imported.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, cast

from vitgan.devices import lacks_memory
from vitgan.errors import ProcessError, UserError, one_line

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
LOST_PROCESS = re.compile(r"gloo|nccl|connection|peer|remote worker|timed out|timeout", re.IGNORECASE)
"""What messages of torch.distributed say when another process is gone or does not answer."""
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


def one_of_several() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def speaks() -> bool:
    """Whether this process is the one that talks to the user."""
    return not one_of_several() or os.environ["RANK"] == "0"


def processes_started() -> int:
    """How many processes the launcher says there are.

    Raises:
        UserError: If it leaves out something that the processes need to find one another, or says nonsense.
    """
    mpi = next((name for name in MPI_SIZES if os.environ.get(name, "1") != "1"), None)
    if "WORLD_SIZE" not in os.environ and mpi:
        raise UserError(f"{mpi} is {os.environ[mpi]}, but MPI is not supported: start the processes with torchrun")
    if os.environ.get("WORLD_SIZE", "1") == "1" and "LOCAL_RANK" not in os.environ:
        return 1
    if missing := [name for name in NAMES if not os.environ.get(name)]:
        raise ProcessError(f"the environment lacks {', '.join(missing)}: start several processes with torchrun")
    try:
        processes, rank, local, _ = (int(os.environ[name]) for name in (*NAMES[:3], "MASTER_PORT"))
    except ValueError as error:
        raise ProcessError(f"the environment is no launcher's ({error}): start the processes with torchrun") from error
    if not (0 <= rank < processes and local >= 0):  # they would wait for ever
        raise ProcessError(f"RANK {rank} of WORLD_SIZE {processes}, LOCAL_RANK {local}: ranks count from 0")
    return processes


def join_processes(device: str) -> "PartialState":
    """Meets the other processes of the run, on GPUs if each has one, else on the CPU by gloo.

    Raises:
        UserError: If the launcher's environment is incomplete, or the processes do not meet.
    """
    import torch
    from accelerate import PartialState

    if not torch.distributed.is_initialized():
        PartialState._reset_state()  # of an earlier run in this process
    try:
        started = processes_started()
        cpu = device == "cpu" or not torch.accelerator.is_available()
        if started > 1 and not cpu:
            cpu = torch.accelerator.current_accelerator() == torch.device("mps")  # has no collectives
            here, gpus = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.accelerator.device_count()
            if not cpu and here > gpus:
                raise UserError(
                    f"{here} processes cannot share the {gpus} GPU(s) of this machine: start as many as it has, or set the "
                    "device to cpu",
                    "training.device",
                )
        processes = PartialState(cpu=cpu, **_meeting_place(started))
    except (RuntimeError, ValueError) as error:
        raise ProcessError(
            f"the processes do not meet: {one_line(str(error), 200)}; start them with torchrun"
        ) from error
    if processes.num_processes != started:
        raise UserError(
            f"{started} processes were started, but only {processes.num_processes} would work together: set the device to "
            "cpu, or start one",
            "training.device",
        )
    return processes


def _meeting_place(started: int) -> dict[str, Any]:
    """Where processes meet that torchrun may start anew: away from what the dead ones left in its store.

    torchrun keeps one store for all attempts, in which a new process finds the addresses of dead ones, and waits for them.

    Raises:
        UserError: If there are several machines, whose torchruns count attempts each for itself.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or os.environ.get("TORCHELASTIC_MAX_RESTARTS") == "0":
        return {}
    if os.environ.get("GROUP_WORLD_SIZE", "1") != "1":
        raise UserError(
            "torchrun's --max-restarts on several machines leaves new processes waiting for dead ones, unless "
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 is in its environment and --rdzv_backend is c10d: set both"
        )
    from torch._C._distributed_c10d import PrefixStore, TCPStore

    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), started, is_master=False)
    store = PrefixStore(f"attempt {os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    return {"store": store, "rank": int(os.environ["RANK"]), "world_size": started}


@contextmanager
def all_alive(processes: "PartialState", again: str = "") -> Iterator[None]:
    """Tells in one line that another process died, and with what command to start all of them again."""
    try:
        yield
    except RuntimeError as error:
        if processes.num_processes == 1 or lacks_memory(error) or not LOST_PROCESS.search(str(error)):
            raise
        raise ProcessError(
            f"process {processes.process_index} of {processes.num_processes} lost another one "
            f"({one_line(str(error), 120)}): start all of them again{again and f' with `{again}`'}"
        ) from error


def on_every_process(processes: "PartialState", action: Callable[[], Result]) -> Result:
    """Does it on every process; where one fails, all get its UserError."""
    from accelerate.utils import gather_object

    result, failure = None, None
    try:
        result = action()
    except UserError as error:
        failure = error
    with all_alive(processes):
        failure = next((error for error in gather_object([failure]) if error is not None), None)
    if failure is not None:
        raise failure
    return cast(Result, result)


def on_main_process(processes: "PartialState", action: Callable[[], Result]) -> Result:
    """Does it on the main process only; all processes get its result, or its UserError."""
    from accelerate.utils import broadcast_object_list

    outcome: list[Result | UserError | None] = [None]
    if processes.is_main_process:
        try:
            outcome = [action()]
        except UserError as error:
            outcome = [error]
    with all_alive(processes):
        result = broadcast_object_list(outcome)[0]
    if isinstance(result, UserError):
        raise result
    return cast(Result, result)
