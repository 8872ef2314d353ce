"""Curves over images and processor time, and the budgets that all runs share, from logs written by hand."""

from dataclasses import replace

import pytest

from vitgan.ablation.report import table
from vitgan.ablation.results import MemberResult, at_budget, common_budget
from vitgan.ablation.run import Member
from vitgan.presets import cifar10_tiny


def run_with(evaluations: dict[int, float], seconds_per_kimg: float) -> MemberResult:
    """A run that logs every thousand images, evaluated at these thousands."""
    records: list[dict[str, float]] = []
    for kimg in range(1, max(evaluations) + 1):
        records.append({"images": 1000 * kimg, "cpu_seconds": seconds_per_kimg, "logits/real": 3.0, "logits/fake": 1.0})
        if kimg in evaluations:
            figures = {"evaluation/FD-extrapolated-lite0": 0.0, "evaluation/FD-lite0": evaluations[kimg]}
            records.append({"images": 1000 * kimg, **figures, "evaluation/precision-lite0": 0.5})
    return MemberResult(Member("row", 0), cifar10_tiny(), records, None)


SLOW = run_with({10: 900.0, 20: 700.0}, seconds_per_kimg=30)
QUICK = run_with({10: 800.0, 40: 500.0}, seconds_per_kimg=12)


def test_scores_over_images_and_over_processor_time() -> None:
    assert SLOW.score() == ([10, 20], [900, 700])
    assert SLOW.score(in_time=True) == (pytest.approx([5, 10]), [900, 700])
    assert SLOW.cpu_minutes([0.0, 15.0]) == pytest.approx([0, 7.5])
    assert (SLOW.kimg, SLOW.score_key) == (20, "evaluation/FD-lite0")
    assert SLOW.metric("precision") == 0.5
    assert SLOW.logit_gap() == (list(range(1, 21)), [2.0] * 20)


def test_rows_are_compared_where_all_of_them_are_measured() -> None:
    rows = {"slow": [SLOW], "quick": [QUICK]}
    assert common_budget(rows, in_time=False) == 20
    assert common_budget(rows, in_time=True) == pytest.approx(8)
    assert at_budget(QUICK.score(), 20) == pytest.approx(700)
    assert at_budget(SLOW.score(in_time=True), 8) == pytest.approx(780)
    assert at_budget(SLOW.score(), 5) is None  # before the first evaluation: nothing is made up
    assert at_budget(([9.05], [900.0]), 9.0) == 900  # runs of 9 minutes end a step after them
    assert at_budget(([9.2], [900.0]), 9.0) is None
    assert common_budget({"row": []}, in_time=True) is None


def test_columns_are_those_metrics_that_were_measured_by_their_names() -> None:
    """With Inception's features the kernel distance is KID."""
    paper = {name.replace("FD-lite0", "FID"): value for name, value in SLOW.records[-1].items()}
    inception = replace(SLOW, records=[*SLOW.records[:1], paper | {"evaluation/KID": 0.25, "evaluation/KID-std": 9.0}])
    (row,) = table({"row": [inception]})
    assert (row["KID"], row["precision"]) == ("0.250", "0.50")
    assert not {"KD", "recall"} & row.keys()
