"""ViTGAN written out slowly, from the paper's equations: loops over heads, tokens, patches and pixels.

Functions of plain tensors and of a state dict, sharing no code with the library. Meant for float64 and tiny sizes.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from reference import stylegan2

Parameters = Mapping[str, Tensor]


def l2_attention_weights(q: Tensor) -> Tensor:
    """softmax_j(-||q_i - q_j||² / sqrt(d)) with every pairwise difference formed: (N, d) -> (N, N)."""
    rows = []
    for q_i in q:
        scores = torch.stack([-((q_i - q_j) ** 2).sum() / math.sqrt(q.shape[1]) for q_j in q])
        rows.append(torch.exp(scores) / torch.exp(scores).sum())
    return torch.stack(rows)


def dot_attention_weights(q: Tensor, k: Tensor) -> Tensor:
    """softmax_j(q_i·k_j / sqrt(d)): (N, d) twice -> (N, N)."""
    rows = []
    for q_i in q:
        scores = torch.stack([(q_i * k_j).sum() / math.sqrt(q.shape[1]) for k_j in k])
        rows.append(torch.exp(scores) / torch.exp(scores).sum())
    return torch.stack(rows)


def attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int, kind: str) -> Tensor:
    """Multi-head attention, head by head, of projected tokens (N, dim) -> (N, dim) before the output projection."""
    size = q.shape[1] // num_heads
    heads = []
    for h in range(num_heads):
        part = slice(h * size, (h + 1) * size)
        weights = l2_attention_weights(q[:, part]) if kind == "l2" else dot_attention_weights(q[:, part], k[:, part])
        heads.append(weights @ v[:, part])
    return torch.cat(heads, dim=1)


def convolve_tokens(tokens: Tensor, kernel: Tensor, bias: Tensor | float = 0.0) -> Tensor:
    """3×3 convolution over the token map: tokens [class; L] (1 + L, in), kernel (out, in, 3, 3) -> (1 + L, out).

    The class token meets the kernel's centre alone.
    """
    size = math.isqrt(len(tokens) - 1)
    rows = [kernel[:, :, 1, 1] @ tokens[0]]
    for y in range(size):
        for x in range(size):
            total = torch.zeros(len(kernel), dtype=tokens.dtype)
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < size and 0 <= x + dx < size:
                        total = total + kernel[:, :, dy + 1, dx + 1] @ tokens[1 + (y + dy) * size + x + dx]
            rows.append(total)
    return torch.stack(rows) + bias


def largest_singular_value(weight: Tensor) -> Tensor:
    return torch.linalg.svdvals(weight.flatten(1))[0]


def layer_norm(h: Tensor) -> Tensor:
    mean = h.mean(dim=-1, keepdim=True)
    return (h - mean) / torch.sqrt(((h - mean) ** 2).mean(dim=-1, keepdim=True) + 1e-5)


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def leaky_relu(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, 0.2 * x)


def pixel_norm(x: Tensor) -> Tensor:
    return x / torch.sqrt((x**2).mean(dim=-1, keepdim=True) + 1e-8)


def cut_patches(images: Tensor, patch_size: int, overlap: int) -> Tensor:
    """Patches that reach `overlap` pixels too far on every side, black outside: (B, L, C · (P + 2o)²), row-major."""
    batch, channels, height, width = images.shape
    padded = images.new_zeros(batch, channels, height + 2 * overlap, width + 2 * overlap)
    padded[:, :, overlap : overlap + height, overlap : overlap + width] = images
    side = patch_size + 2 * overlap
    patches = [
        padded[:, :, top : top + side, left : left + side].reshape(batch, -1)
        for top in range(0, height, patch_size)
        for left in range(0, width, patch_size)
    ]
    return torch.stack(patches, dim=1)


def paste_patches(patches: Tensor, grid_size: int) -> Tensor:
    """(B, L, P², C) -> images (B, C, H, W), patch by patch, pixel by pixel."""
    batch, _, pixels, channels = patches.shape
    size = math.isqrt(pixels)
    images = patches.new_zeros(batch, channels, grid_size * size, grid_size * size)
    for i in range(grid_size**2):
        for j in range(pixels):
            images[:, :, (i // grid_size) * size + j // size, (i % grid_size) * size + j % size] = patches[:, i, j]
    return images


def cell_centres(size: int) -> Tensor:
    """(x, y) of the centres of size×size cells over [-1, 1]², row-major: (size², 2), float64."""
    return torch.tensor(
        [[-1 + (2 * x + 1) / size, -1 + (2 * y + 1) / size] for y in range(size) for x in range(size)],
        dtype=torch.float64,
    )


def modulated_linear(x: Tensor, weight: Tensor, bias: Tensor, style: Tensor, demodulate: bool) -> Tensor:
    """x (P, in) through the weight (out, in) that the style (in,) makes: its columns scaled, its rows normalised."""
    modulated = torch.stack([weight[:, k] * style[k] for k in range(len(style))], dim=1)
    if demodulate:
        modulated = torch.stack([row / torch.sqrt((row**2).sum() + 1e-8) for row in modulated])
    return torch.stack([modulated @ x_p + bias for x_p in x])


def equalized(p: Parameters, name: str, x: Tensor, lr_multiplier: float = 1.0) -> Tensor:
    """A linear layer that stores its weight with unit variance (and both weight and bias over `lr_multiplier`)."""
    weight = p[f"{name}.weight"] * lr_multiplier / math.sqrt(p[f"{name}.weight"].shape[1])
    return x @ weight.t() + p.get(f"{name}.bias", torch.zeros(())) * lr_multiplier


def fourier(p: Parameters, name: str, positions: Tensor, frequency: float) -> Tensor:
    return torch.sin(positions @ p[f"{name}.weight"].t() * frequency + p[f"{name}.bias"])


def sincos(grid_size: int, dim: int) -> Tensor:
    """Fixed features of a grid's cells: (grid_size², dim), float64."""
    rows = []
    for y in range(grid_size):
        for x in range(grid_size):
            of_axis = [
                (wave, place * 10_000 ** (-4 * k / dim)) for place in (x, y) for wave in "sc" for k in range(dim // 4)
            ]
            rows.append([math.sin(phase) if wave == "s" else math.cos(phase) for wave, phase in of_axis])
    return torch.tensor(rows, dtype=torch.float64)


def rotated(x: Tensor, num_heads: int, grid_size: int) -> Tensor:
    """Rotary positions of (N, dim): of each head a 2×2 rotation matrix for each pair of channels of each token of the map.

    The tokens before the last grid_size² have no place.
    """
    size, first = x.shape[1] // num_heads, len(x) - grid_size**2
    y = x.clone()
    for token in range(grid_size**2):
        for pair in range(size // 2):
            axis, k = divmod(pair, size // 4)
            place = token // grid_size if axis else token % grid_size
            angle = place * 10_000 ** (-4 * k / size)
            cos, sin = math.cos(angle), math.sin(angle)
            turn = torch.tensor([[cos, -sin], [sin, cos]], dtype=x.dtype)
            for head in range(num_heads):
                channels = [head * size + pair, head * size + pair + size // 2]
                y[first + token, channels] = turn @ x[first + token, channels]
    return y


def implicit_patches(p: Parameters, name: str, tokens: Tensor, size: int, frequency: float) -> Tensor:
    """A weight matrix per token, built in full: patch embeddings (L, dim) -> pixels (L, size², C)."""
    features = fourier(p, f"{name}.fourier", cell_centres(size), frequency)
    patches = []
    for y in tokens:
        hidden = features
        for layer, last in (("1", False), ("2", True)):
            style = equalized(p, f"{name}.style{layer}", y)
            weight = p[f"{name}.layer{layer}.weight"] / math.sqrt(len(style))
            hidden = modulated_linear(hidden, weight, p[f"{name}.layer{layer}.bias"], style, demodulate=not last)
            hidden = hidden if last else leaky_relu(hidden) * math.sqrt(2)
        patches.append(hidden)
    return torch.stack(patches)


def mapping(p: Parameters, z: Tensor, labels: Tensor | None, lr_multiplier: float) -> Tensor:
    """z (B, z_dim) -> w (B, w_dim): StyleGAN2's layers, sqrt(2) lrelu(W x + b)."""
    x, name = pixel_norm(z), "mapping_network"
    if labels is not None:
        weight = p[f"{name}.class_embedding.weight"]
        columns = [weight[:, label] / math.sqrt(weight.shape[1]) for label in labels]
        x = torch.cat([x, pixel_norm(torch.stack(columns) + p[f"{name}.class_embedding.bias"])], dim=1)
    for i in range(sum(key.startswith(f"{name}.layers.") and key.endswith(".weight") for key in p)):
        weight = p[f"{name}.layers.{i}.weight"] * lr_multiplier / math.sqrt(x.shape[1])
        x = leaky_relu(x @ weight.t() + p[f"{name}.layers.{i}.bias"] * lr_multiplier) * math.sqrt(2)
    return x


def positions(p: Parameters, grid_size: int, frequency: float) -> Tensor:
    """E_pos (L, dim): learned sines, or fixed features of as many channels as the first block has."""
    if "position_embedding.weight" in p:
        return fourier(p, "position_embedding", cell_centres(grid_size), frequency)
    return sincos(grid_size, p["blocks.0.attention.out.weight"].shape[0])


def generator(
    p: Parameters,
    styles: Tensor,
    heads: int,
    grid_size: int,
    patch_size: int,
    frequency: float,
    pixel_frequency: float,
    latent_mapping: str = "sln",
    rotary: bool = False,
    lower_ends: tuple[int, ...] = (),
    modulation_silu: bool = False,
) -> Tensor:
    """Styles (B, num_styles, w_dim) -> images (B, C, H, W), one image at a time; the state dict tells the variant.

    With `lower_ends`, the blocks done at the end of each lower level, what all heads make: (B, N, C, H, W).
    """

    def norm(name: str, h: Tensor, w: Tensor) -> Tensor:
        if f"{name}.gamma.weight" not in p:
            return plain_norm(p, f"{name}.norm", h)
        gamma = equalized(p, f"{name}.gamma", w)
        if f"{name}.beta.weight" not in p:
            return gamma * rms_norm(h)
        return gamma * layer_norm(h) + equalized(p, f"{name}.beta", w)

    images = []
    for ws in styles:
        lower = []
        h = positions(p, grid_size, frequency)
        if latent_mapping != "sln":
            latent = equalized(p, "latent_embedding", ws[:1])
            h = h + latent if latent_mapping == "add" else torch.cat([latent, h])
        ws = ws / (1 + torch.exp(-ws)) if modulation_silu else ws
        for i in range(count(p, "blocks")):
            block, w = f"blocks.{i}", ws[min(i, len(ws) - 1)]
            if i in lower_ends:
                y = norm(f"level_norms.{len(lower)}", h, w)[-(grid_size**2) :]
                lower.append(pixels(p, y, w, patch_size, pixel_frequency, f"level_mappings.{len(lower)}"))
            gates = equalized(p, f"{block}.gates", w) if f"{block}.gates.weight" in p else h.new_ones(2 * h.shape[1])
            x = norm(f"{block}.norm1", h, w)
            q, k, v = (equalized(p, f"{block}.attention.projections.{name}", x) for name in "qkv")
            q, k = (
                head_norm(p, f"{block}.attention.q_norm", q, heads),
                head_norm(p, f"{block}.attention.k_norm", k, heads),
            )
            q, k = (rotated(x, heads, grid_size) if rotary else x for x in (q, k))
            attended = equalized(p, f"{block}.attention.out", attention(q, k, v, heads, "dot"))
            h = h + attended * gates[: h.shape[1]]
            x = mlp(
                lambda name, x, block=block: equalized(p, f"{block}.mlp.{name}", x),
                p,
                block,
                norm(f"{block}.norm2", h, w),
            )
            h = h + x * gates[h.shape[1] :]
        image = pixels(p, norm("norm", h, ws[-1])[-(grid_size**2) :], ws[-1], patch_size, pixel_frequency)
        images.append(torch.stack([*lower, image]) if lower else image)
    return torch.stack(images)


def pixels(
    p: Parameters, y: Tensor, w: Tensor, patch_size: int, frequency: float, name: str = "pixel_mapping"
) -> Tensor:
    """Patch embeddings (L, dim) -> one image (C, H, W), by whichever decoder the state dict holds."""
    grid_size = math.isqrt(len(y))
    if f"{name}.conv.weight" in p:
        return interpolated_pixels(p, name, y, patch_size)
    if f"{name}.linear.weight" in p:
        patches = equalized(p, f"{name}.linear", y)
        return paste_patches(patches.reshape(1, len(y), patch_size**2, -1), grid_size)[0]
    if f"{name}.to_image.weight" in p:
        x = torch.stack([token.reshape(-1, 1, 1) for token in y], dim=3).reshape(1, -1, grid_size, grid_size)
        for i in range(count(p, f"{name}.layers")):
            x = stylegan2.leaky_relu(stylegan2.layer(p, f"{name}.layers.{i}", x, w[None], up=True))
        return stylegan2.layer(p, f"{name}.to_image", x, w[None], demodulate=False)[0]
    return paste_patches(implicit_patches(p, name, y, patch_size, frequency)[None], grid_size)[0]


def interpolated_pixels(p: Parameters, name: str, y: Tensor, patch_size: int) -> Tensor:
    """Each token's features at its patch's centre, linear between centres, then two convolutions as sums over their taps."""
    grid_size, hidden = math.isqrt(len(y)), len(p[f"{name}.conv.weight"])
    size = grid_size * patch_size
    features = torch.stack([math.sqrt(2) * equalized(p, f"{name}.features", token) for token in y])
    features = features.reshape(grid_size, grid_size, hidden)
    x = y.new_zeros(hidden, size, size)
    for i in range(size):
        for j in range(size):
            for row, share in shares(i, patch_size, grid_size):
                for column, other in shares(j, patch_size, grid_size):
                    x[:, i, j] += share * other * features[row, column]
    for layer, gain in (("conv", math.sqrt(2)), ("to_image", 1.0)):
        x = torch.where(x > 0, x, 0.2 * x) if layer == "conv" else x
        weight = p[f"{name}.{layer}.weight"]
        padded = y.new_zeros(hidden, size + 2, size + 2)
        padded[:, 1:-1, 1:-1] = x
        taps = [(i, j) for i in range(3) for j in range(3)]
        summed = sum(
            torch.einsum("oc,chw->ohw", weight[:, :, i, j], padded[:, i : i + size, j : j + size]) for i, j in taps
        )
        x = gain * (summed / math.sqrt(9 * hidden) + p[f"{name}.{layer}.bias"][:, None, None])
        x = torch.where(x > 0, x, 0.2 * x) if layer == "conv" else x
    return x


def shares(pixel: int, patch_size: int, grid_size: int) -> list[tuple[int, float]]:
    """The two tokens nearest to a pixel on one axis and their shares; beyond the outer centres the outer token alone."""
    place = min(max((pixel + 0.5) / patch_size - 0.5, 0.0), grid_size - 1.0)
    first = int(place)
    return [(first, 1 - (place - first)), (min(first + 1, grid_size - 1), place - first)]


def count(p: Parameters, name: str) -> int:
    """Length of the module list of that name."""
    place = name.count(".") + 1
    return 1 + max(int(key.split(".")[place]) for key in p if key.startswith(f"{name}."))


def rms_norm(h: Tensor) -> Tensor:
    return h / torch.sqrt((h**2).mean(dim=-1, keepdim=True) + 1e-6)


def plain_norm(p: Parameters, name: str, h: Tensor) -> Tensor:
    """LayerNorm with scale and shift, or RMSNorm with a scale, where there is no shift."""
    if f"{name}.bias" in p:
        return layer_norm(h) * p[f"{name}.weight"] + p[f"{name}.bias"]
    return rms_norm(h) * p[f"{name}.weight"]


def head_norm(p: Parameters, name: str, x: Tensor, num_heads: int) -> Tensor:
    """QK-norm of each head's part of (N, dim), where there is one."""
    if f"{name}.weight" not in p:
        return x
    return torch.cat([rms_norm(part) * p[f"{name}.weight"] for part in x.chunk(num_heads, dim=1)], dim=1)


def mlp(linear: Callable[[str, Tensor], Tensor], p: Parameters, block: str, x: Tensor) -> Tensor:
    """GELU between two layers, or SwiGLU where there is a gate."""
    hidden = linear("mlp_in", x)
    if f"{block}.mlp.gate.weight" not in p:
        return linear("mlp_out", gelu(hidden))
    gate = linear("gate", x)
    return linear("mlp_out", gate / (1 + torch.exp(-gate)) * hidden)


def discriminator(
    p: Parameters,
    initial: Parameters,
    images: Tensor,
    heads: int,
    patch_size: int,
    overlap: int,
    frequency: float,
    labels: Tensor | None = None,
    position_kind: str = "sine",
    rotary: bool = False,
    after: int | None = None,
) -> Tensor:
    """Logits (B,) of the discriminator, one image at a time; the state dict tells the variant.

    With `after`, the tokens (B, 1 + L, dim) after so many blocks.

    `initial` are the weights at initialisation: with improved spectral normalisation each layer keeps the largest
    singular value that it had there.
    """

    def weight(name: str, gain: float = 1.0) -> Tensor:
        raw, first = p[f"{name}.weight"], initial[f"{name}.weight"]
        scale = gain / math.sqrt(first[0].numel())
        if f"{name}.weight_norm.target_sigma" not in p:
            return raw * scale
        return scale * largest_singular_value(first) * raw / largest_singular_value(raw)

    def linear(name: str, x: Tensor, gain: float = 1.0) -> Tensor:
        return x @ weight(name, gain).t() + gain * p.get(f"{name}.bias", torch.zeros(()))

    def attend(name: str, x: Tensor) -> Tensor:
        v = linear(f"{name}.projections.v", x)
        if f"{name}.projections.qk.weight" in p:
            qk = linear(f"{name}.projections.qk", x, (x.shape[1] // heads) ** -0.25)
            qk = head_norm(p, f"{name}.q_norm", qk, heads)
            qk = rotated(qk, heads, grid_size) if rotary else qk
            return linear(f"{name}.out", attention(qk, qk, v, heads, "l2"))
        q = head_norm(p, f"{name}.q_norm", linear(f"{name}.projections.q", x), heads)
        k = head_norm(p, f"{name}.k_norm", linear(f"{name}.projections.k", x), heads)
        q, k = (rotated(x, heads, grid_size) if rotary else x for x in (q, k))
        return linear(f"{name}.out", attention(q, k, v, heads, "dot"))

    grid_size = images.shape[-1] // patch_size
    places = 0.0 if position_kind == "none" else positions(p, grid_size, frequency)
    logits = []
    for n, patches in enumerate(cut_patches(images, patch_size, overlap)):
        h = torch.cat([p["class_token"][None], linear("patch_embedding.linear", patches) + places])
        for i in range(count(p, "blocks")):
            block, one = f"blocks.{i}", h.new_ones(1)
            attended = attend(f"{block}.attention", plain_norm(p, f"{block}.norm1", h))
            h = h + attended * p.get(f"{block}.scale1", one)
            x = plain_norm(p, f"{block}.norm2", h)
            x = mlp(lambda name, x, block=block: linear(f"{block}.mlp.{name}", x), p, block, x)
            h = h + x * p.get(f"{block}.scale2", one)
            if i + 1 == after:
                break
        if after is not None:
            logits.append(h)
            continue
        y = plain_norm(p, "norm", h[:1])
        logit = linear("head", y)[0, 0]
        if labels is not None:
            logit = logit + (weight("class_embedding")[labels[n]] * y[0]).sum()
        logits.append(logit)
    return torch.stack(logits)


def resized(x: Tensor, size: int) -> Tensor:
    """A map (C, H, W) at size×size, each side a power of 2 times the other: means of blocks, or between four neighbours."""
    side = x.shape[1]
    result = x.new_zeros(len(x), size, size)
    for i in range(size):
        for j in range(size):
            if size <= side:
                k = side // size
                result[:, i, j] = x[:, i * k : (i + 1) * k, j * k : (j + 1) * k].mean(dim=(1, 2))
                continue
            row, column = ((n + 0.5) * side / size - 0.5 for n in (i, j))
            for y in (math.floor(row), math.floor(row) + 1):
                for z in (math.floor(column), math.floor(column) + 1):
                    weight = (1 - abs(row - y)) * (1 - abs(column - z))
                    result[:, i, j] += weight * x[:, min(max(y, 0), side - 1), min(max(z, 0), side - 1)]
    return result


def alignment(p: Parameters, tokens: Tensor, maps: list[Tensor]) -> Tensor:
    """mean (1 - cos) between p(h) = W_2 silu(W_1 h + b_1) + b_2 and all maps at the tokens' places: tokens (B, L, dim)."""
    size, terms = math.isqrt(tokens.shape[1]), []
    for n, image in enumerate(tokens):
        target = torch.cat([resized(x[n], size) for x in maps])  # (F, size, size)
        for i, h in enumerate(image):
            hidden = equalized(p, "alignment.hidden", h)
            given = equalized(p, "alignment.out", hidden / (1 + torch.exp(-hidden)))
            wanted = target[:, i // size, i % size]
            terms.append(1 - (given @ wanted) / torch.sqrt((given @ given) * (wanted @ wanted)))
    return torch.stack(terms).mean()


def mng_noise(normals: Tensor) -> Tensor:
    """GAT's: level i of N has the deviation 1 - 0.125^(1 - i / (N - 1)) + 0.01, and is the next one's noise plus its own.

    Independent standard normal numbers (N, ...) -> noise (N, ...).
    """
    last = len(normals) - 1
    variances = [(1 - 0.125 ** (1 - i / last) + 0.01) ** 2 for i in range(last + 1)] + [0.0]
    added = [math.sqrt(variances[i] - variances[i + 1]) * normals[i] for i in range(last + 1)]
    return torch.stack([torch.stack(added[i:]).sum(dim=0) for i in range(last + 1)])


def blocky(image: Tensor, side: int) -> Tensor:
    """An image (C, H, W) at 1 / side of its resolution, each pixel shown side×side times."""
    result = torch.empty_like(image)
    for top in range(0, image.shape[1], side):
        for left in range(0, image.shape[2], side):
            block = image[:, top : top + side, left : left + side]
            result[:, top : top + side, left : left + side] = block.mean(dim=(1, 2), keepdim=True)
    return result
