"""Feature extractors behind one interface: images in, features and class logits out, and a name that says whose."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vitgan.devices import true_convolutions
from vitgan.errors import UserError
from vitgan.files import sha256
from vitgan.frozen.features import weights_file
from vitgan.metrics import inception, lite
from vitgan.metrics.transformer_features import load_transformer

EXTRACTORS = ("inception", "lite0", "lite2")
CPU_BATCH_SIZE = 16  # activations stay in the cache: 1.5 times as fast as 64
GPU_BATCH_SIZE = 64


@dataclass(frozen=True)
class FeatureExtractor:
    """Maps images to features.

    Attributes:
        name: Stands in the name of every metric made with these features, unless they are `paper_comparable`.
        network: (B, 3, H, W) float32 in [0, 255] -> features (B, dimension) and class logits (B, K); K may be 0.
        dimension: Number of features.
        weights_sha256: Hex digest of the weights file.
        resizing: How images reach the network's input size.
        device: Where the network computes.
        batch_size: Images that go through the network at once; it decides speed, and rounding in the last digits.
        paper_comparable: The network and weights that published FIDs are measured with.
    """

    name: str
    network: Callable[[Tensor], tuple[Tensor, Tensor]]
    dimension: int
    weights_sha256: str
    resizing: str
    device: torch.device
    batch_size: int = 64
    paper_comparable: bool = False

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Extracts features without touching gradients, autocast or any random state.

        Args:
            images: (B, C, H, W) uint8, C 1 or 3; grey is repeated to three channels.

        Returns:
            Features (B, dimension) and logits (B, K), float32, on `device`.

        Raises:
            ValueError: Images of another shape or type.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"expected uint8 (B, 1 or 3, H, W), got {images.dtype} {tuple(images.shape)}")
        return self.of_pixels(images.to(self.device).float())

    def of_pixels(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The same of images (B, C, H, W), float32 in [0, 255], that were never rounded."""
        with torch.inference_mode(), torch.autocast(self.device.type, enabled=False), true_convolutions(self.device):
            features, logits = self.network(pixels.to(self.device).expand(-1, 3, -1, -1))
        return features.float(), logits.float()

    @property
    def identity(self) -> dict[str, str | int | bool]:
        """What decides the features' values, for reports and for the keys of caches."""
        return {
            "name": self.name,
            "dimension": self.dimension,
            "weights_sha256": self.weights_sha256,
            "resizing": self.resizing,
            "paper_comparable": self.paper_comparable,
        }


def load_extractor(
    name: str, device: torch.device | str = "cpu", inception_weights: Path | None = None
) -> FeatureExtractor:
    """Loads "inception", "lite0", "lite2", or a network of `transformers`.

    Args:
        name: One of these three, or a folder or Hub repository with DINOv2's or CLIP's weights; its name has a "/".
        device: Where to compute.
        inception_weights: File with Inception's weights; default: see `inception.find_weights`. With any file but the
            known one the extractor's name carries the file's digest, and its metrics are no FIDs.

    Raises:
        UserError: Unknown name, or weights that are missing or wrong; the line says what to install or pass.
    """
    device, known = torch.device(device), False
    match name:
        case "inception":
            weights = inception.find_weights(inception_weights)
            if weights is None:
                raise UserError(
                    f"the Inception weights are not on this machine: {inception.how_to_get_weights()}",
                    "inception_weights",
                )
            network, digest, dimension = inception.load_inception(weights), sha256(weights), inception.FEATURES
            known = digest.startswith(inception.WEIGHTS_SHA256_START)
            name = name if known else f"{name}-{digest[:8]}"
            resizing, size = "TensorFlow 1 bilinear", inception.INPUT_SIZE
        case "lite0" | "lite2":
            weights = weights_file(name)
            network, digest, dimension = lite.load_lite(name, weights), sha256(weights), lite.FEATURES
            resizing, size = "antialiased bilinear", network.input_size
        case _:
            check_features(name)
            network, digest = load_transformer(name)
            name, dimension = f"{network.kind.name}-{digest[:8]}", network.dimension
            resizing, size = "antialiased bicubic", network.input_size
    return FeatureExtractor(
        name=name,
        network=network.to(device),
        dimension=dimension,
        weights_sha256=digest,
        resizing=f"{resizing} to {size}×{size}",
        device=device,
        batch_size=CPU_BATCH_SIZE if device.type == "cpu" else GPU_BATCH_SIZE,
        paper_comparable=known,
    )


def check_features(name: str) -> str:
    """Refuses what cannot name features.

    Raises:
        UserError: If `name` is none of `EXTRACTORS`, and no path or Hub repository.
    """
    if name not in EXTRACTORS and "/" not in name:
        raise UserError(
            f"there are no features {name!r}: choose one of {', '.join(EXTRACTORS)}, or a folder (./NAME) or Hub "
            "repository (user/name) with the weights of DINOv2 or CLIP",
            "features",
        )
    return name


def rebatch(batches: Iterable[Tensor], batch_size: int, limit: int | None = None) -> Iterator[Tensor]:
    """The same rows in batches of exactly `batch_size` (the last may be smaller), at most `limit` rows in all.

    Networks round differently at different batch sizes; with this the metrics do not depend on how images arrive.
    """
    waiting: list[Tensor] = []
    count, taken = 0, 0
    for batch in batches:
        if limit is not None:
            batch = batch[: limit - taken]
        taken += len(batch)
        waiting.append(batch)
        count += len(batch)
        while count >= batch_size:
            rows = torch.cat(waiting) if len(waiting) > 1 else waiting[0]
            yield rows[:batch_size]
            waiting, count = [rows[batch_size:]], count - batch_size
        if taken == limit:
            break
    if count:
        yield torch.cat(waiting)
