"""The short form of the fuzzing in `torture.py`: a few damaged inputs of every kind that is read."""

from pathlib import Path

import pytest

from reliability.fuzz import KINDS, fuzz

FEW = {"lmdb": 3, "run": 5}


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the unpickler's, over its own buffer
def test_damage_is_refused_or_harmless_or_listed(tmp_path: Path, name: str) -> None:
    cases = FEW.get(name, 15)
    outcomes, faults = fuzz(name, tmp_path / "fuzz", cases)
    assert faults == []
    assert outcomes.total() == cases
