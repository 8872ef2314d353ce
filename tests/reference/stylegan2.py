"""StyleGAN2 written out slowly, from the equations: per-sample weights, explicit zero insertion and filtering.

Functions of plain tensors and of a state dict, sharing no code with the library. Sums over filter taps are Python
loops; the only operation of torch's that does real work is the plain convolution of stride 1.
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

FILTER = [1 / 8, 3 / 8, 3 / 8, 1 / 8]
Parameters = Mapping[str, Tensor]


def upfirdn(x: Tensor, up: int, down: int, padding: tuple[int, int], gain: float = 1.0) -> Tensor:
    """Insert zeros, pad (before, after), filter with [1, 3, 3, 1] / 8 both ways, keep every `down`-th pixel."""
    batch, channels, height, width = x.shape
    spread = x.new_zeros(batch, channels, height * up, width * up)
    spread[:, :, ::up, ::up] = x
    before, after = padding
    padded = x.new_zeros(batch, channels, height * up + before + after, width * up + before + after)
    padded[:, :, before : before + height * up, before : before + width * up] = spread
    rows, columns = padded.shape[2] - 3, padded.shape[3] - 3
    filtered = x.new_zeros(batch, channels, rows, columns)
    for i in range(4):
        for j in range(4):
            filtered = filtered + FILTER[i] * FILTER[j] * gain * padded[:, :, i : i + rows, j : j + columns]
    return filtered[:, :, ::down, ::down]


def leaky_relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def linear(p: Parameters, name: str, x: Tensor) -> Tensor:
    """Equalised learning rate: unit-variance weights are divided by sqrt(fan_in) when used."""
    weight = p[f"{name}.weight"] / math.sqrt(p[f"{name}.weight"].shape[1])
    return x @ weight.t() + p[f"{name}.bias"]


def equalized(weight: Tensor) -> Tensor:
    return weight / math.sqrt(weight[0].numel())


def modulated_conv(x: Tensor, weight: Tensor, style: Tensor, demodulate: bool, up: bool) -> Tensor:
    """One weight per sample, built in full; `weight` is the effective one (out, in, k, k)."""
    results = []
    for image, s in zip(x, style, strict=True):
        modulated = weight * s[None, :, None, None]
        if demodulate:
            modulated = modulated / torch.sqrt(modulated.pow(2).sum(dim=(1, 2, 3), keepdim=True) + 1e-8)
        image = image[None]
        if up:
            size = image.shape[-1]
            spread = image.new_zeros(1, image.shape[1], 2 * size - 1, 2 * size - 1)
            spread[:, :, ::2, ::2] = image
            # A true convolution over everything it can reach, then the filter that makes up for the zeros (gain 4).
            reached = F.conv2d(F.pad(spread, (2, 2, 2, 2)), modulated.flip(2, 3))
            results.append(upfirdn(reached, up=1, down=1, padding=(1, 1), gain=4.0))
        else:
            results.append(F.conv2d(image, modulated, padding=modulated.shape[-1] // 2))
    return torch.cat(results)


def layer(p: Parameters, name: str, x: Tensor, w: Tensor, demodulate: bool = True, up: bool = False) -> Tensor:
    """Style, modulated convolution and bias."""
    y = modulated_conv(x, equalized(p[f"{name}.weight"]), linear(p, f"{name}.affine", w), demodulate, up)
    return y + p[f"{name}.bias"][None, :, None, None]


def normalize(x: Tensor) -> Tensor:
    return x / torch.sqrt(x.pow(2).mean(dim=1, keepdim=True) + 1e-8)


def mapping(p: Parameters, prefix: str, z: Tensor | None, labels: Tensor | None, lr_multiplier: float) -> Tensor:
    parts = [] if z is None else [normalize(z)]
    if labels is not None:
        scale = 1 / math.sqrt(p[f"{prefix}.class_embedding.weight"].shape[1])
        columns = p[f"{prefix}.class_embedding.weight"].t()[labels] * scale
        parts.append(normalize(columns + p[f"{prefix}.class_embedding.bias"]))
    x = torch.cat(parts, dim=1)
    for i in range(sum(name.startswith(f"{prefix}.layers.") and name.endswith(".weight") for name in p)):
        weight = p[f"{prefix}.layers.{i}.weight"] * lr_multiplier / math.sqrt(x.shape[1])
        x = leaky_relu(x @ weight.t() + p[f"{prefix}.layers.{i}.bias"] * lr_multiplier)
    return x


def synthesis(p: Parameters, w: Tensor, noise: dict[str, Tensor]) -> Tensor:
    """Images from styles (B, num_styles, w_dim); `noise` (.., H, W) by layer name, absent where none is added."""
    x, image, style = p["constant"].repeat(len(w), 1, 1, 1), None, 0
    for block in range(1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))):
        convolutions = 1 if block == 0 else 2
        for i in range(convolutions):
            name = f"blocks.{block}.layers.{i}"
            x = layer(p, f"{name}.conv", x, w[:, style], up=block > 0 and i == 0)
            if name in noise:
                x = x + p[f"{name}.noise_strength"] * noise[name]
            x, style = leaky_relu(x), style + 1
        rgb = layer(p, f"blocks.{block}.to_rgb", x, w[:, style], demodulate=False)  # shared with the next convolution
        image = rgb if image is None else upfirdn(image, up=2, down=1, padding=(2, 1), gain=4.0) + rgb
    assert image is not None
    return image


def conv(p: Parameters, name: str, x: Tensor, padding: int = 0, stride: int = 1) -> Tensor:
    y = F.conv2d(x, equalized(p[f"{name}.weight"]), padding=padding)[:, :, ::stride, ::stride]
    return y + p[f"{name}.bias"][None, :, None, None] if f"{name}.bias" in p else y


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """The extra channel, image by image: each looks up the run of `group` neighbours that it belongs to."""
    channels = []
    for i in range(len(x)):
        start = i // group * group
        members = [x[j] for j in range(start, min(start + group, len(x)))]
        mean = sum(members) / len(members)
        variance = sum(((m - mean) ** 2 for m in members), torch.zeros_like(x[0])) / len(members)
        channels.append(torch.sqrt(variance + 1e-8).mean().expand(1, 1, *x.shape[2:]))
    return torch.cat(channels)


def discriminator(p: Parameters, images: Tensor, labels: Tensor | None, group: int, lr_multiplier: float) -> Tensor:
    """Logits (B,); residual blocks where the state dict has skip convolutions."""
    x = leaky_relu(conv(p, "from_rgb", images))
    for block in range(1 + max(int(name.split(".")[1]) for name in p if name.startswith("blocks."))):
        name = f"blocks.{block}"
        y = leaky_relu(conv(p, f"{name}.conv", x, padding=1))
        y = leaky_relu(conv(p, f"{name}.conv_down", upfirdn(y, up=1, down=1, padding=(2, 2)), stride=2))
        if f"{name}.skip.1.weight" in p:
            y = (y + conv(p, f"{name}.skip.1", upfirdn(x, up=1, down=2, padding=(1, 1)))) / math.sqrt(2)
        x = y
    x = torch.cat([x, minibatch_stddev(x, group)], dim=1)
    x = leaky_relu(conv(p, "conv", x, padding=1))
    x = linear(p, "out", leaky_relu(linear(p, "hidden", x.reshape(len(x), -1))))
    if labels is None:
        return x[:, 0]
    embedding = mapping(p, "label_mapping", None, labels, lr_multiplier)
    return (x * embedding).sum(dim=1) / math.sqrt(x.shape[1])
