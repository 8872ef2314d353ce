"""What processes tell each other along with their gradients; `test_two_nodes` and others have real ones."""

from types import SimpleNamespace

import torch

from vitgan.training.agreement import Agreement


def test_the_largest_mean_is_remembered_until_somebody_looks() -> None:
    accelerator = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    agreement = Agreement(accelerator)  # pyright: ignore[reportArgumentType]
    assert not agreement.alone

    def heard(spent: float, asked: bool, look: bool) -> list[float]:
        parts = {"loss": torch.ones(()), **agreement.told(spent=spent, asked=asked)}
        halves = {name: value / 2 for name, value in parts.items()}  # the mean with a process that says 0
        numbers = agreement.heard(halves, "spent", "asked", look=look)
        assert set(halves) == {"loss"}
        return numbers

    assert heard(0.25, False, look=False) == [0, 0]
    assert heard(0.5, False, look=True) == [0.25, 0]
    assert heard(0.75, True, look=False) == [0.25, 0]  # the same on every process, whenever each was told
    assert heard(1.0, False, look=True) == [0.5, 0.5]


def test_one_process_sends_nothing() -> None:
    agreement = Agreement(SimpleNamespace(num_processes=1))  # pyright: ignore[reportArgumentType]
    assert agreement.alone
    assert agreement.any(True, False) == [True, False]
    assert agreement.mean(torch.ones(2)).tolist() == [1, 1]
