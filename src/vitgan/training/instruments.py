"""Measurements of stability: spectral norms and attention entropies of D.

They are taken when the log is written. Gradient norms and logits are taken at every step (`loop`).
"""

import torch
from torch import Tensor

from vitgan.layers.spectral import spectral_norms
from vitgan.models.discriminator import Discriminator

MEASURED_IMAGES = 16


@torch.no_grad()
def measure_discriminator(discriminator: Discriminator, images: Tensor) -> dict[str, float]:
    """Spectral norm per layer and attention entropy per block of D.

    Args:
        discriminator: The network; its state is not changed.
        images: Real images (B, C, H, W) in [-1, 1]; the first 16 are looked at.

    Returns:
        "spectral_norm/<layer>": largest singular value of the weight that the layer applies;
        "attention_entropy/<block>": mean over tokens and heads of -sum p log p, over log N: 1 is uniform attention, 0 is
        attention to one token.
    """
    figures = {f"spectral_norm/{name}": value for name, value in spectral_norms(discriminator).items()}
    for index, weights in enumerate(discriminator.attention_maps(images[:MEASURED_IMAGES])):
        entropy = -(weights * weights.clamp_min(1e-30).log()).sum(-1).mean()
        uniform = torch.log(torch.tensor(float(weights.shape[-1]), device=weights.device))
        figures[f"attention_entropy/{index}"] = (entropy / uniform).item()
    return figures
