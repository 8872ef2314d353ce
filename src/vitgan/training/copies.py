"""Copies of arrays on the device."""

import numpy as np
import torch
from torch import Tensor


class DeviceCopies:
    """Copies arrays to a device.

    On CUDA from pinned memory and in a stream of their own: nobody waits for a copy, and it runs beside the step before.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, array: np.ndarray) -> Tensor:
        """The array on the device, for use in the current stream."""
        tensor = torch.from_numpy(array)
        if self._stream is None:
            return tensor.to(self.device)
        with torch.cuda.stream(self._stream):
            copy = tensor.pin_memory().to(self.device, non_blocking=True)
        steps = torch.cuda.current_stream(self.device)
        steps.wait_stream(self._stream)
        copy.record_stream(steps)  # its memory is free again when the steps have read it, not before
        return copy
