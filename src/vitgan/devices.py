"""Where to compute, by name."""

import re
from typing import TYPE_CHECKING

from vitgan.errors import UserError

if TYPE_CHECKING:
    import torch

NAME = re.compile(r"auto|(cpu|mps)|(cuda|xpu)(:\d{1,3})?", re.ASCII)


def check_device_name(name: str) -> str:
    """Refuses what names no place to compute ("meta"); imports no torch, gives the name back.

    Raises:
        UserError: If it is none.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"the device {name} cannot be used here: choose auto, cpu, cuda, cuda:1 or mps")
    return name


def find_device(name: str) -> "torch.device":
    """The device of this name; "auto" is CUDA where there is one, else the CPU.

    Raises:
        UserError: If it is none, or is not here.
    """
    import torch

    if check_device_name(name) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"the device {name} cannot be used here ({reason}): choose auto or cpu") from error
