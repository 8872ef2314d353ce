"""Improved precision and recall, density and coverage: are the images real, and is all of reality there?

A set's manifold is the union of balls around its features, each reaching to the k-th nearest neighbour within the set.
Precision: share of generated features inside the real manifold; recall: of real ones inside the generated manifold
(Kynkäänniemi et al. 2019). Density: how many real balls hold a generated feature, over k; coverage: share of real
balls that hold one (Naeem et al. 2020), which outliers cannot inflate. A point on a ball's surface is inside for the
first two and outside for the others, as in their authors' code.
Near copies: share of generated features nearer to a real one than all but 1 in 100 real ones are to another.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

NEAR = 0.01
"""Share of real images that count as near copies of other real images: what a model that copies nothing has, too."""
ROUNDING = 1e-5
"""The squared distance of two images differs by less than this part, whichever batches their features came from."""
ROWS = 1024  # of the distance matrix, which never exists as a whole


@dataclass(frozen=True)
class Manifold:
    """Features with the squared distances to their k-th nearest neighbours.

    Attributes:
        features: (N, D) float64.
        radii: k -> (N,) float64.
    """

    features: Tensor
    radii: dict[int, Tensor]

    @classmethod
    def of(cls, features: Tensor, neighbours: set[int]) -> "Manifold":
        """Measures the radii for each k in `neighbours`; N must exceed every k."""
        features = features.double()
        largest = max(neighbours) + 1  # the nearest one is the feature itself
        nearest = torch.cat(
            [rows.topk(largest, dim=1, largest=False).values for _, rows in squared_distances(features, features)]
        )
        return cls(features, {k: nearest[:, k] for k in neighbours})


def manifold_figures(generated: Manifold, real: Manifold, *, precision_k: int, coverage_k: int) -> dict[str, float]:
    """Compares two manifolds in one pass over their distances.

    Args:
        generated: Needs radii for `precision_k`.
        real: Needs radii for both and for 1.
        precision_k: Neighbours that make the balls of precision and recall (3 by custom).
        coverage_k: The same for density and coverage (5 by custom).

    Returns:
        "precision", "recall", "coverage" and "near_copies" in [0, 1], and "density": 1 for the real distribution, more
        for images nearer to its core.
    """
    nearest = torch.full((len(generated.features),), torch.inf, dtype=torch.float64)
    precise = torch.zeros(len(generated.features), dtype=torch.bool)
    recalled, balls, covered = 0, 0, 0
    for start, rows in squared_distances(real.features, generated.features):
        own = slice(start, start + len(rows))
        precise |= (rows <= real.radii[precision_k][own, None]).any(dim=0)
        recalled += int((rows <= generated.radii[precision_k]).any(dim=1).sum())
        inside = rows < real.radii[coverage_k][own, None] * (1 - ROUNDING)
        balls += int(inside.sum())
        covered += int(inside.any(dim=1).sum())
        nearest = nearest.minimum(rows.amin(dim=0))
    return {
        "precision": precise.double().mean().item(),
        "recall": recalled / len(real.features),
        "density": balls / (coverage_k * len(generated.features)),
        "coverage": covered / len(real.features),
        "near_copies": (nearest < near_distance(real)).double().mean().item(),
    }


def near_distance(real: Manifold) -> Tensor:
    """The squared distance that 1 in 100 real features have to another at most; what is stored twice does not count."""
    nearest = real.radii[1]
    different = nearest[nearest > ROUNDING * real.features.var(dim=0).sum()]
    return different.quantile(NEAR) if len(different) else nearest.new_zeros(())


def squared_distances(x: Tensor, y: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows of the squared distances between (N, D) and (M, D): (first row, (rows, M) float64)."""
    centre = y.mean(dim=0)  # distances ignore it, and the subtraction below cancels less without it
    x, y = x - centre, y - centre
    y_norms = y.square().sum(dim=1)
    for start in range(0, len(x), ROWS):
        rows = x[start : start + ROWS]
        distances = torch.addmm(y_norms[None, :], rows, y.T, alpha=-2)
        yield start, distances.add_(rows.square().sum(dim=1)[:, None]).clamp_min_(0)
