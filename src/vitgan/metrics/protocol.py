"""Named protocols: everything that a metric depends on besides the images, fixed, so that it can be compared."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from vitgan.errors import UserError, one_line
from vitgan.files import read_json
from vitgan.metrics.features import check_features
from vitgan.schema import first_problem


@dataclass(frozen=True, config=ConfigDict(extra="forbid", strict=True, allow_inf_nan=False))
class Protocol:
    """How a metric is measured.

    Attributes:
        name: Stands beside every metric.
        purpose: What it is comparable with.
        features: Feature extractor, which also fixes how images are resized to the network's input.
        generated_images: How many images are measured.
        reference_images: How many of the store's images they are measured against, drawn without replacement;
            None for all. A store with fewer gives all it has.
        reference_flips: Each reference image counts twice, once mirrored.
        split: Which part of the data set the store must hold; None if any will do.
        resolution: Height and width of the images; None if any will do.
        exact_store_images: How many images the store must have; None if any number will do.
        least_store_images: How many images the store must have at least; each class too, where classes are compared.
        truncation: psi of the truncation trick when a generator draws the images.
        seed: Of the generator's latents and of all random choices.
        splits: Splits of the Inception Score.
        kernel_subsets: Subsets that the kernel distance is averaged over.
        kernel_subset_size: Images in each.
        manifold_images: Images of each side that precision, recall, density, coverage and the search for
            near copies compare.
        precision_k: Neighbours for precision and recall.
        coverage_k: Neighbours for density and coverage.
        texture_images: Images of each side whose pixels are looked at for seams, repeated tiles and the spectrum, drawn
            without replacement; fewer if there are fewer.
        path_pairs: Pairs of near styles that the path length is averaged over; 0 leaves it out.
        class_images: Images of each class that the distance by class compares with the reference's; 0 leaves it out.
    """

    name: str
    purpose: str
    features: Annotated[str, AfterValidator(check_features)] = "inception"
    generated_images: int = 50_000
    reference_images: int | None = None
    reference_flips: bool = False
    split: str | None = None
    resolution: int | None = None
    exact_store_images: int | None = None
    least_store_images: int = 100
    truncation: float = Field(default=1.0, ge=0)
    seed: int = Field(default=0, ge=0)
    splits: int = Field(default=10, ge=1)
    kernel_subsets: int = Field(default=100, ge=1)
    kernel_subset_size: int = Field(default=1000, ge=2)
    manifold_images: int = 10_000
    precision_k: int = Field(default=3, ge=1)
    coverage_k: int = Field(default=5, ge=1)
    texture_images: int = Field(default=2_000, ge=2)
    path_pairs: int = Field(default=0, ge=0)
    class_images: int = Field(default=0, ge=0)

    def __post_init__(self) -> None:
        neighbours = max(self.precision_k, self.coverage_k)
        for field, least in (
            ("generated_images", 2 * max(neighbours, self.splits) + 2),
            ("manifold_images", neighbours + 2),
            ("reference_images", 2 * neighbours + 2),
            ("least_store_images", 2 * neighbours + 2),
            ("class_images", 2),
        ):
            value = getattr(self, field)
            if value is not None and value < least and (field, value) != ("class_images", 0):
                raise UserError(f"protocol {self.name}: {field} is {value}, it must be {least} or more", field)

    @property
    def kept_features(self) -> int:
        """Features of each side that are kept in memory."""
        return max(self.manifold_images, min(10_000, self.kernel_subsets * self.kernel_subset_size))

    @property
    def reference_key(self) -> dict[str, int | bool | None]:
        """The fields that decide the reference's statistics."""
        return {
            "reference_images": self.reference_images,
            "reference_flips": self.reference_flips,
            "kept_features": self.kept_features,
            "splits": self.splits,
            "seed": self.seed,
        }

    @property
    def identity(self) -> str:
        """The name; of one from a file, which may be edited, with a digest of all fields that change a metric."""
        if PROTOCOLS.get(self.name) == self:
            return self.name
        fields = {name: value for name, value in self.to_dict().items() if name not in ("name", "purpose")}
        return f"{self.name}-{hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:8]}"

    def choose(self, available: int, wanted: int | None) -> np.ndarray:
        """Which of `available` images are taken when `wanted` are: sorted indices (n,) int64, drawn with the seed."""
        if wanted is None or wanted >= available:
            return np.arange(available)
        return np.sort(np.random.default_rng(self.seed).choice(available, wanted, replace=False))

    def check_store(self, count: int, resolution: int, split: str | None) -> None:
        """Refuses a store that this protocol is not about.

        Args:
            count: Its images.
            resolution: Their height and width.
            split: Which part of a data set it says it is, if it says so.

        Raises:
            UserError: One line with what is expected.
        """
        exact = self.exact_store_images or count
        for fits, expected, found in (
            (
                self.resolution in (None, resolution),
                f"{self.resolution}×{self.resolution} images",
                f"{resolution}×{resolution}",
            ),
            (split is None or self.split in (None, split), f"the {self.split} split", f"the {split} split"),
            (count == exact, f"exactly {exact:,} images", f"{count:,}"),
            (count >= self.least_store_images, f"{self.least_store_images:,} images or more", f"{count:,}"),
        ):
            if not fits:
                raise UserError(
                    f"protocol {self.name} is about a store of {expected}, this one has {found}: pass another store, or "
                    "choose another protocol",
                    "protocol",
                )

    def to_dict(self) -> dict[str, str | int | float | bool | None]:
        """All fields, ready for JSON."""
        return dataclasses.asdict(self)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "cifar10-train-50k",
            "The usual CIFAR-10 FID of papers: 50,000 samples against all training images.",
            split="train",
            resolution=32,
            exact_store_images=50_000,
        ),
        Protocol(
            "cifar10-test-10k",
            "CIFAR-10 as ViTGAN's authors' code measures it: 10,000 samples against the test images.",
            generated_images=10_000,
            split="test",
            resolution=32,
            exact_store_images=10_000,
        ),
        Protocol(
            "celeba64-test",
            "CelebA at 64×64: as many samples as the official test split has images, against that split.",
            generated_images=19_962,
            split="test",
            resolution=64,
            exact_store_images=19_962,
        ),
        Protocol(
            "celeba64-train-50k",
            "CelebA at 64×64: 50,000 samples against all 162,770 training images.",
            split="train",
            resolution=64,
            exact_store_images=162_770,
        ),
        Protocol(
            "lsun-train-50k",
            "LSUN, any category and size: 50,000 samples against 50,000 training images drawn at random.",
            reference_images=50_000,
            split="train",
            least_store_images=50_000,
        ),
        Protocol(
            "quick-5k",
            "Any data, no network: 5,000 samples against at most 10,000 images, for curves during training.",
            features="lite0",
            generated_images=5_000,
            reference_images=10_000,
            kernel_subsets=50,
            manifold_images=5_000,
        ),
    )
}


def find_protocol(name: str | Path) -> Protocol:
    """The protocol of this name, or the one described in a JSON file (name ending in ".json") with Protocol's fields.

    Raises:
        UserError: Unknown name, or a file that is missing or describes none.
    """
    name = str(name)
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    if not name.endswith(".json"):
        raise UserError(
            f"there is no protocol {name!r}: choose one of {', '.join(PROTOCOLS)}, or pass a .json file", "protocol"
        )
    fields = read_json(Path(name), "protocol")
    try:
        protocol = Protocol(**fields)
    except UserError as error:  # its parameter is a field of the file, and no option
        raise UserError(f"the protocol {name}: {error}") from error
    except (TypeError, ValidationError) as error:
        field, reason = first_problem(error) if isinstance(error, ValidationError) else (None, "is no JSON object")
        raise UserError(one_line(f"the protocol {name}: {field or 'it'} {reason}")) from error
    if protocol.name in PROTOCOLS:
        raise UserError(f"the protocol {name} calls itself {protocol.name!r}, which is taken: give it another name")
    return protocol
