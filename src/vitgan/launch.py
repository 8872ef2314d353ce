"""Which processes share the work: what torchrun says in the environment, read before torch is imported."""

import os
from dataclasses import dataclass

from vitgan.errors import UserError

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MPI_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE")


@dataclass(frozen=True)
class Launch:
    """This process's place among those of the run.

    Attributes:
        processes: How many there are.
        rank: From 0, over all machines.
        here: How many of them run on this machine.
    """

    processes: int = 1
    rank: int = 0
    here: int = 1


def one_of_several() -> bool:
    """Whether a launcher started this process as one of several."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def speaks() -> bool:
    """Whether this process is the one that talks to the user."""
    return not one_of_several() or os.environ["RANK"] == "0"


def launch() -> Launch:
    """What the launcher says.

    Raises:
        UserError: If it leaves out something that the processes need to find one another, or says nonsense.
    """
    mpi = next((name for name in MPI_SIZES if os.environ.get(name, "1") != "1"), None)
    if "WORLD_SIZE" not in os.environ and mpi:
        raise UserError(f"{mpi} is {os.environ[mpi]}, but MPI is not supported: start the processes with torchrun")
    if os.environ.get("WORLD_SIZE", "1") == "1" and "LOCAL_RANK" not in os.environ:
        return Launch()
    missing = [name for name in NAMES if not os.environ.get(name)]
    if missing:
        found = [name for name in NAMES if name not in missing]
        raise UserError(
            f"the environment has {' and '.join(found)}, but not {', '.join(missing)}: "
            "start several processes with torchrun, or unset what is there"
        )
    processes, rank = _number("WORLD_SIZE", 1), _number("RANK", 0)
    local, _ = _number("LOCAL_RANK", 0), _number("MASTER_PORT", 0)
    here = _number("LOCAL_WORLD_SIZE", 1) if "LOCAL_WORLD_SIZE" in os.environ else local + 1
    if rank >= processes or local >= here:
        raise UserError(f"RANK {rank} of WORLD_SIZE {processes}, LOCAL_RANK {local} of {here}: ranks count from 0")
    return Launch(processes, rank, here)


def _number(name: str, least: int) -> int:
    value = os.environ[name]
    if not (value.isascii() and value.isdigit() and len(value) < 10 and int(value) >= least):
        raise UserError(f"the environment has {name}={value!r}: expected a whole number of at least {least}")
    return int(value)
