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
    in_ball = between <= radii(real, coverage_k)[:, None]
    shares = {
        "precision": np.mean([(between[:, j] <= radii(real, precision_k)).any() for j in range(len(generated))]),
        "recall": np.mean([(between[i] <= radii(generated, precision_k)).any() for i in range(len(real))]),
        "density": in_ball.sum() / (coverage_k * len(generated)),
        "coverage": in_ball.any(axis=1).mean(),
    }
    return {name: float(share) for name, share in shares.items()}


def figures(generated: np.ndarray, real: np.ndarray, precision_k: int = 3, coverage_k: int = 5) -> dict[str, float]:
    manifolds = [Manifold.of(torch.from_numpy(x), {precision_k, coverage_k}) for x in (generated, real)]
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
    assert far == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}

    scattered = figures(4 * same, real)
    assert scattered["precision"] < 0.6 * good["precision"]
    assert scattered["density"] < 0.6 * good["density"]
    assert scattered["recall"] > 0.9
