import numpy as np
import pytest
import torch

from vitgan.metrics import precision_recall
from vitgan.metrics.precision_recall import Manifold, manifold_figures, squared_distances


def by_the_definition(generated: np.ndarray, real: np.ndarray, precision_k: int, coverage_k: int) -> dict[str, float]:
    """All pairwise differences, point by point."""

    def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.sqrt(((a[:, None] - b[None]) ** 2).sum(axis=2))

    def radii(a: np.ndarray, k: int) -> np.ndarray:
        return np.sort(distances(a, a), axis=1)[:, k]

    between = distances(real, generated)
    in_ball = between < radii(real, coverage_k)[:, None]  # as in Naeem et al.'s code
    nearest_real = radii(real, 1)
    shares = {
        "precision": np.mean([(between[:, j] <= radii(real, precision_k)).any() for j in range(len(generated))]),
        "recall": np.mean([(between[i] <= radii(generated, precision_k)).any() for i in range(len(real))]),
        "density": in_ball.sum() / (coverage_k * len(generated)),
        "coverage": in_ball.any(axis=1).mean(),
        "near_copies": (between.min(axis=0) ** 2 < np.quantile(nearest_real**2, 0.01)).mean(),
    }
    return {name: float(share) for name, share in shares.items()}


def figures(generated: np.ndarray, real: np.ndarray, precision_k: int = 3, coverage_k: int = 5) -> dict[str, float]:
    manifolds = [Manifold.of(torch.from_numpy(x), {1, precision_k, coverage_k}) for x in (generated, real)]
    return manifold_figures(*manifolds, precision_k=precision_k, coverage_k=coverage_k)


@pytest.mark.parametrize("rows", [7, 1024])
def test_equals_the_definition(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision_recall, "ROWS", rows)
    rng = np.random.default_rng(0)
    generated, real = rng.standard_normal((70, 4)) * 0.8 + 0.3, rng.standard_normal((50, 4))
    assert figures(generated, real, 3, 5) == pytest.approx(by_the_definition(generated, real, 3, 5), rel=1e-12)
    assert figures(generated, real, 2, 2) == pytest.approx(by_the_definition(generated, real, 2, 2), rel=1e-12)


def test_distances_survive_a_large_offset() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((9, 5)) + 1e4, rng.standard_normal((6, 5)) + 1e4
    found = torch.cat([rows for _, rows in squared_distances(torch.from_numpy(x), torch.from_numpy(y))])
    np.testing.assert_allclose(found.numpy(), ((x[:, None] - y[None]) ** 2).sum(axis=2), rtol=1e-6)


def test_directions() -> None:
    rng = np.random.default_rng(2)
    real, same = rng.standard_normal((400, 3)), rng.standard_normal((400, 3))
    good = figures(same, real)
    assert min(good["precision"], good["recall"], good["density"], good["coverage"]) > 0.85

    collapsed = figures(real[:1] + 0.05 * rng.standard_normal((400, 3)), real)
    assert collapsed["recall"] < 0.2 * good["recall"]
    assert collapsed["coverage"] < 0.2 * good["coverage"]

    far = figures(same + 20, real)
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0, "near_copies": 0}

    scattered = figures(4 * same, real)
    assert scattered["precision"] < 0.6 * good["precision"]
    assert scattered["density"] < 0.6 * good["density"]
    assert scattered["recall"] > 0.9


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_a_set_against_itself(scale: float) -> None:
    """The k-th neighbour lies on the ball's surface, which is not inside: with it density would be 1.2."""
    rng = np.random.default_rng(3)
    real = scale * (rng.standard_normal((300, 6)) + 3)
    for same in (real, rng.permutation(real), real.astype(np.float32).astype(np.float64)):
        found = figures(same, real)
        assert found == {"precision": 1, "recall": 1, "density": 1, "coverage": 1, "near_copies": 1}
    half = figures(rng.permutation(real)[:150], real)
    assert half["density"] == pytest.approx(1, abs=0.1)


def test_near_copies() -> None:
    rng = np.random.default_rng(4)
    real, other = rng.standard_normal((2000, 8)), rng.standard_normal((2000, 8))
    assert figures(other, real)["near_copies"] == pytest.approx(0.01, abs=0.008)
    third = np.concatenate([other[:1400], real[:600] + 1e-3])
    assert figures(third, real)["near_copies"] == pytest.approx(0.3 + 0.7 * 0.01, abs=0.008)


def test_images_that_are_stored_twice_do_not_hide_copies() -> None:
    rng = np.random.default_rng(5)
    real = rng.standard_normal((300, 8))
    real[:60] = real[60:120]
    assert figures(real, real)["near_copies"] == 1
    assert figures(rng.standard_normal((300, 8)), real)["near_copies"] < 0.05
    assert figures(real, np.repeat(real[:1], 300, axis=0))["near_copies"] == 0  # nothing to compare with
