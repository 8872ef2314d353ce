"""Kernel distance (KID, where the features are Inception's): unbiased, with its spread over subsets.

Source: Bińkowski et al. 2018, "Demystifying MMD GANs".
"""

import numpy as np
import torch
from torch import Tensor


def kernel_distance(
    generated: Tensor, real: Tensor, *, subsets: int, subset_size: int, seed: int
) -> tuple[float, float]:
    """Mean and standard deviation, over random subsets, of the squared maximum mean discrepancy.

    Args:
        generated: Features (N, D).
        real: Features (M, D).
        subsets: How many pairs of subsets are drawn.
        subset_size: Images in each, without replacement; no more than N or M are taken.
        seed: Of the drawing.

    Returns:
        Mean and population standard deviation over subsets.
    """
    size = min(subset_size, len(generated), len(real))
    rng = np.random.default_rng(seed)
    values = np.empty(subsets)
    for index in range(subsets):
        x = generated[torch.from_numpy(rng.choice(len(generated), size, replace=False))]
        y = real[torch.from_numpy(rng.choice(len(real), size, replace=False))]
        values[index] = squared_discrepancy(x.double(), y.double())
    return float(values.mean()), float(values.std())


def squared_discrepancy(x: Tensor, y: Tensor) -> float:
    """Unbiased squared MMD of (n, D) and (m, D) under the kernel (a·b / D + 1)³; may be negative."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (a @ b.T / a.shape[1] + 1).pow_(3)

    def mean_off_diagonal(a: Tensor) -> Tensor:
        values = kernel(a, a)
        return (values.sum() - values.trace()) / (len(a) * (len(a) - 1))

    return (mean_off_diagonal(x) + mean_off_diagonal(y) - 2 * kernel(x, y).mean()).item()
