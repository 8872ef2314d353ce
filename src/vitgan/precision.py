"""Which precision a processor computes well with."""

from typing import Literal

import torch

from vitgan.errors import UserError

Precision = Literal["auto", "float32", "bf16"]


def choose_precision(wanted: Precision, cpu: bool) -> Literal["no", "bf16"]:
    """accelerate's name of the precision to compute in.

    Raises:
        UserError: If bf16 is wanted on a device that cannot autocast to it.
    """
    if wanted == "float32":
        return "no"
    if wanted == "bf16":
        if not cpu and torch.backends.mps.is_available():
            raise UserError("bf16 is not supported on this device: use --training.precision float32")
        return "bf16"
    return "bf16" if computes_bf16(cpu) else "no"


def computes_bf16(cpu: bool) -> bool:
    """Whether bf16 products run in hardware (and so faster than float32)."""
    if not cpu and torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if not cpu and torch.backends.mps.is_available():
        return False
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
