"""What processes tell each other along with their gradients; `test_two_nodes` and others have real ones."""

from types import SimpleNamespace

import torch

from vitgan.training.agreement import Agreement


def test_a_flag_is_remembered_until_somebody_looks() -> None:
    accelerator = SimpleNamespace(num_processes=2, device=torch.device("cpu"))
    agreement = Agreement(accelerator)  # pyright: ignore[reportArgumentType]
    assert not agreement.alone

    def said(over: bool, asked: bool, look: bool) -> list[bool]:
        parts = {"loss": torch.ones(()), **agreement.told(over=over, asked=asked)}
        halves = {name: value / 2 for name, value in parts.items()}  # the mean with a process that has no wish
        heard = agreement.heard(halves, "over", "asked", look=look)
        assert set(halves) == {"loss"}
        return heard

    assert said(False, False, look=True) == [False, False]
    assert said(False, True, look=False) == [False, False]
    assert said(False, False, look=True) == [False, True]


def test_one_process_sends_nothing() -> None:
    agreement = Agreement(SimpleNamespace(num_processes=1))  # pyright: ignore[reportArgumentType]
    assert agreement.alone
    assert agreement.any(True, False) == [True, False]
    assert agreement.mean(torch.ones(2)).tolist() == [1, 1]
