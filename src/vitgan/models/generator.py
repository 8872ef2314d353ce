"""What all generators share: a mapping z -> w, a synthesis w -> images, and sampling with the two."""

import io
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Literal, Self, cast, overload

import torch
from torch import Tensor, nn

from vitgan.devices import keeps_freed_memory
from vitgan.errors import UserError
from vitgan.frozen.vae import decode
from vitgan.frozen.vae_spec import VaeSpec
from vitgan.models.draws import (
    W_MEAN_SAMPLES,
    checked_choice,
    checked_count,
    checked_number,
    classes_in_turn,
    draw_latents,
    latents_of_mean,
    latents_of_seeds,
)

if TYPE_CHECKING:  # not imported to train
    from PIL import Image

    from vitgan.models.build import GeneratorSpec

CLASS_MEAN_SAMPLES = 200
"""Latents of a class at least; GAT's running mean of a class, which keeps 0.995, has about as many."""
SHOWN_NAMES = 20
"""Names of classes in a message."""
SHOWN_IMAGES = 20
"""Images that a notebook shows of a generator."""

LARGEST_BATCH = 256
LEAST_CPU_BATCH = 8
CPU_CACHE_BYTES = 12 << 20
"""What the widest activation of a batch may take on a CPU. Measured on one core with 16 MiB of third-level cache to itself,
images/s at batch 8, 16, 32, 64, 128: the `quickstart` generator 911, 1019, 1010, 609, 511 in float32 and 1142, 1407, 1597,
1591, 1058 in bf16; `cifar10-tiny` 451, 470, 464, 326, 292 and 669, 765, 825, 826, 640; `cifar10` 54, 50, 47, 43 and 100,
107, 98, 94. The best are those at which the widest activation takes 6 to 12 MiB."""
CPU_KEPT_BYTES = 96 << 20
"""The same where freed memory is kept (`vitgan.devices`), so that a large activation costs no new pages: the `cifar10`
generator on two cores, batch 8, 16, 32, 64, 128: 83, 85, 106, 106, 108 in float32 and 147, 154, 203, 218, 229 in bf16."""
CUDA_SHARE = 32
"""Part of a GPU's free memory that the widest activation of a batch may take: about ten of its size live at once."""

Classes = Tensor | Sequence[int | str | Tensor] | int | str | None
"""Classes of images as `Generator.sample` takes them."""

Noise = Callable[..., Tensor]
"""(name of the place, *shape) -> standard normal numbers of this shape on the model's device."""


def check_finite(made: Tensor, network: str = "generator") -> None:
    """Refuses what a network with broken weights makes: as bytes it would be black, and be measured.

    Raises:
        UserError: If a number is not finite.
    """
    if not made.isfinite().all():
        raise UserError(f"the {network} makes numbers that are not finite: take weights from before it diverged")


def checked_images(images: Tensor) -> Tensor:
    """Images as a generator makes them, clipped to [-1, 1]; see `check_finite`."""
    check_finite(images)
    return images.clamp(-1, 1)


class Generator(nn.Module, ABC):
    """Base of the generators.

    Attributes:
        resolution: Height and width of what it makes in pixels.
        channels: 1 (grey) or 3 (RGB); those of latents.
        vae: What makes images of its latents (`to_images`); None for a model that makes images itself.
        num_classes: Number of classes of a conditional model, 0 for an unconditional one.
        class_counts: How many images of each class it was trained on: the shares in which classes are drawn. None for a
            model that does not know, which draws all equally often, and for an unconditional one.
        class_names: What the classes are called; None where there are no names.
        z_dim: Size of a latent, standard normal.
        w_dim: Size of a style.
        num_styles: How many places of the synthesis take a style; mixing gives them different ones.
        num_levels: Images of rising level that D is shown; the last is the image (`vitgan.models.levels`).
        patch_size: Of the patches that the image is made of, whose borders may show; 4 where there are none.
        w_mean: Mean style (w_dim,), a buffer; see `update_w_mean`.
        spec: What `build_generator` built it from.
    """

    w_mean: Tensor
    spec: "GeneratorSpec"
    class_counts: tuple[int, ...] | None = None
    class_names: tuple[str, ...] | None = None
    patch_size: int = 4
    vae: VaeSpec | None = None
    num_levels: int = 1

    def __init__(
        self, resolution: int, channels: int, num_classes: int, z_dim: int, w_dim: int, num_styles: int
    ) -> None:
        super().__init__()
        self.resolution, self.channels, self.num_classes = resolution, channels, num_classes
        self.z_dim, self.w_dim, self.num_styles = z_dim, w_dim, num_styles
        self.register_buffer("w_mean", torch.empty(w_dim))
        self._class_means: Tensor | None = None
        Generator.reset_parameters(self)

    def reset_parameters(self) -> None:
        """Starts the tensors that are the network's own, not a layer's: the mean style at 0."""
        nn.init.zeros_(self.w_mean)

    @abstractmethod
    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (B, z_dim), labels (B,) int64 for a conditional model -> w (B, w_dim)."""

    @abstractmethod
    def synthesis(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        """w (B, num_styles, w_dim) -> images (B, C, H, W), float32, nominally in [-1, 1]; or latents, see `to_images`.

        `noise` draws the per-pixel noise of generators that have one (StyleGAN2); None takes their fixed noise, so
        that the image is a function of w alone.
        """

    def to_images(self, made: Tensor) -> Tensor:
        """What `synthesis` and `forward` make -> images (B, C, H, W), float32, nominally in [-1, 1]; differentiable.

        Whatever shows or judges images goes through here. Latents are decoded by the model's VAE.

        Raises:
            UserError: If they are latents, and their VAE is unknown or not there.
        """
        if self.vae is not None:
            return decode(self.vae, made)
        if self.channels not in (1, 3):
            raise UserError(f"the model makes {self.channels} channels and names no VAE: train it on a latent store")
        return made.float()

    @property
    def image_size(self) -> int:
        """Height and width of the images in pixels."""
        return self.resolution * self.image_factor

    @property
    def image_channels(self) -> int:
        """1 (grey) or 3 (RGB)."""
        return self.vae.channels if self.vae else self.channels

    @property
    def image_factor(self) -> int:
        """Pixels of an image for each that the model makes, along an axis."""
        return self.vae.factor if self.vae else 1

    def levels(self, w: Tensor, noise: Noise | None = None) -> Tensor:
        """w (B, num_styles, w_dim) -> what D is shown: images (B, C, H, W), or all levels (B, N, C, H, W) if there are more.

        `noise` draws what is added to levels, besides that of `synthesis`; None adds none.
        """
        return self.synthesis(w, noise)

    def levels_of(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Real images (B, C, H, W) as `levels` has fakes."""
        return images

    def styles(self, w: Tensor, truncation: float | Tensor = 1.0, labels: Tensor | None = None) -> Tensor:
        """One style for all places: w (B, w_dim) -> (B, num_styles, w_dim), pulled towards the mean by `truncation`.

        A tensor (1,) or (B, 1) in its place is an input of an exported graph. With `labels` (B,) the mean is that of each
        image's class: towards that of all, images would leave their class.
        """
        if isinstance(truncation, Tensor) or checked_number(truncation, "truncation") != 1.0:
            mean = self.w_mean if labels is None else self.class_means()[labels]
            w = mean.lerp(w.to(mean.dtype), truncation)
        return w.unsqueeze(1).expand(-1, self.num_styles, -1)

    def class_means(self) -> Tensor:
        """Mean style of each class (num_classes, w_dim) over latents of a fixed seed, computed when first asked for.

        It is no part of a checkpoint: unlike GAT's running means it is a function of the weights, those of the average too.
        """
        means = self._class_means
        if means is None or (means.device, means.dtype) != (self.w_mean.device, self.w_mean.dtype):
            count = max(W_MEAN_SAMPLES // self.num_classes, CLASS_MEAN_SAMPLES)
            with torch.inference_mode(False), torch.no_grad():
                z = draw_latents(count, self.z_dim, seed=0).to(self.w_mean)
                labels = torch.arange(self.num_classes, device=z.device)
                of_class = [self.mapping(z, label.expand(count)).float().mean(dim=0) for label in labels]
                self._class_means = means = torch.stack(of_class).to(self.w_mean.dtype)
        return means

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._class_means = None
        return super().load_state_dict(*args, **kwargs)

    def forward(self, z: Tensor, labels: Tensor | None = None, truncation: float | Tensor = 1.0) -> Tensor:
        """z (B, z_dim) -> images (B, C, H, W), float32, nominally in [-1, 1]; or latents, see `to_images`.

        Args:
            z: Latents, standard normal.
            labels: Class indices (B,), for conditional models only.
            truncation: psi of the truncation trick in w: 1 is the plain model, 0 the mean image; see `styles`.
        """
        with self.own_precision():
            return self.synthesis(self.styles(self.mapping(z, labels), truncation, labels))

    def own_precision(self) -> AbstractContextManager:
        """A model in bfloat16 computes in it as training does: what needs float32 is float32."""
        kind, own = self.w_mean.device.type, self.w_mean.dtype
        casts = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)  # "meta" has none
        if torch.float16 in (own, torch.get_autocast_dtype(kind) if casts else own):
            raise UserError("activations are too large for float16: take bfloat16, as half() does, also for autocast")
        return torch.autocast(kind, torch.bfloat16) if own == torch.bfloat16 else nullcontext()

    def images_of(self, styles: Tensor) -> Tensor:
        """Styles (B, num_styles, w_dim) -> images (B, C, H, W), float32, nominally in [-1, 1]; see `to_images`."""
        with self.own_precision():
            made = self.synthesis(styles)
        return self.to_images(made)

    def half(self) -> Self:
        """Half the memory, in bfloat16: float16 has not the range. Images change by half a step of 255 on average or two."""
        return self.bfloat16()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.w_mean.device

    def labels(self, count: int) -> Tensor | None:
        """Class indices (count,) int64 on the model's device: every class in turn, as often as in the training images.

        The first n, for every n, have the shares of `class_counts` as nearly as whole numbers can. None for an
        unconditional model.
        """
        if not self.num_classes:
            return None
        return classes_in_turn(count, self.class_counts or (1,) * self.num_classes).to(self.device)

    def grid(self, count: int) -> tuple[int, int | None]:
        """How many of `count` samples to show in a picture, and its columns (None: near a square).

        Where 4 to 20 classes come in turn each has a column of its own, and the last row is whole.
        """
        labels, in_turn, known = self.labels(count), self.classes_of_seeds(range(count)), self.known_classes
        if labels is None or in_turn is None or not torch.equal(labels, in_turn):
            return count, None
        if not 4 <= len(known) <= min(count, 20):
            return count, None
        return count - count % len(known), len(known)

    @torch.no_grad()
    def update_w_mean(self) -> None:
        """Sets `w_mean` to the mean style over 10,000 latents of a fixed seed, classes in their shares (`labels`)."""
        self._class_means = None
        z = latents_of_mean(self.z_dim).to(self.w_mean)
        self.w_mean.copy_(self.mapping(z, self.labels(W_MEAN_SAMPLES)).float().mean(dim=0))

    def class_of(self, name: str | int) -> int:
        """The index of a class, by its name or index.

        Raises:
            UserError: If the model has no such class, saw no image of it, or has no classes.
        """
        if not self.num_classes:
            raise UserError("this model is unconditional: leave out the label", "label")
        names = self.class_names or ()
        if name in names:
            index = names.index(str(name))
        elif str(name) in map(str, range(self.num_classes)):
            index = int(name)
        else:
            called = f", or one of {', '.join(names[:SHOWN_NAMES])}" if names else ""
            raise UserError(f"{name} is no class of this model: choose 0 to {self.num_classes - 1}{called}", "label")
        if self.class_counts is not None and not self.class_counts[index]:
            raise UserError(f"the model saw no image of class {name}, and would draw noise: choose another", "label")
        return index

    def indices_of(self, labels: Classes, count: int) -> Tensor | None:
        """Class indices (count,) int64 on the model's device; by default those of `labels(count)`.

        Args:
            labels: One class for all images, or one for each: indices, names, or a tensor of indices.
            count: How many images there are.

        Raises:
            UserError: If the model has no such class, or they are not `count`.
        """
        if labels is None:
            return self.labels(count)
        labels = cast(Classes, labels.tolist() if hasattr(labels, "tolist") else labels)  # pyright: ignore
        each: list = [*labels] if isinstance(labels, Sequence) and not isinstance(labels, str) else [labels] * count
        if len(each) != count:
            raise UserError(f"there are {len(each)} labels for {count} images: pass one, or one for each", "labels")
        try:
            named = [cast(int, label.item()) if isinstance(label, Tensor) else label for label in each]
            return torch.tensor([self.class_of(label) for label in named], device=self.device)
        except UserError as error:
            raise UserError(str(error), "labels") from error

    def classes_of_seeds(self, seeds: Sequence[int]) -> Tensor | None:
        """The class (count,) int64 in which a seed's image is shown if nobody chooses one: a function of the seed alone.

        Consecutive seeds meet every class that the model was trained on in turn. None for an unconditional model.
        """
        if not self.num_classes:
            return None
        known = self.known_classes
        return torch.tensor([known[seed % len(known)] for seed in seeds], device=self.w_mean.device)

    @property
    def known_classes(self) -> list[int]:
        """The classes that the model saw images of."""
        counts = self.class_counts or (1,) * self.num_classes
        return [index for index, count in enumerate(counts) if count]

    def of_seeds(
        self,
        seeds: Iterable[int],
        truncation: float = 1.0,
        labels: Classes = None,
        batch_size: int | None = None,
    ) -> Iterator[Tensor]:
        """One image for each seed, in batches as `batches` yields them: it does not depend on the other seeds.

        Args:
            seeds: Whole numbers from 0 to 2^63 - 1, any iterable.
            truncation: See `sample`.
            labels: As in `sample`; default for a conditional model: `classes_of_seeds`.
            batch_size: See `sample`.
        """
        seeds = [*seeds]  # which may be read only once
        latents = latents_of_seeds(seeds, self.z_dim)  # says what is wrong with them
        labels = self.classes_of_seeds(seeds) if labels is None else labels
        return self._batches(latents, truncation, self.indices_of(labels, len(latents)), batch_size)

    def batches(
        self,
        count: int,
        seed: int = 0,
        truncation: float = 1.0,
        labels: Classes = None,
        batch_size: int | None = None,
    ) -> Iterator[Tensor]:
        """Yields `count` images in batches (b, C, H, W), float32 clipped to [-1, 1]; see `sample`."""
        count = checked_count(count)
        latents = draw_latents(count, self.z_dim, seed)
        return self._batches(latents, truncation, self.indices_of(labels, count), batch_size)

    @torch.inference_mode()
    def _batches(
        self, latents: Tensor, truncation: float, indices: Tensor | None, batch_size: int | None
    ) -> Iterator[Tensor]:
        device = self.w_mean.device
        batch_size = self.fast_batch() if batch_size is None else checked_count(batch_size, "batch_size")
        for start in range(0, len(latents), batch_size):
            z = latents[start : start + batch_size].to(device)
            y = indices[start : start + batch_size] if indices is not None else None
            yield checked_images(self.to_images(self(z, y, truncation)))

    def fast_batch(self) -> int:
        """How many images to generate at once: a power of two for the model's size, its device and autocast's precision.

        The widest activation is taken to hold w_dim values per pixel, as in implicit decoders; interpolated ones hold half.
        """
        device = self.w_mean.device
        value_bytes = 2 if torch.is_autocast_enabled(device.type) else 4
        image_bytes = self.resolution**2 * self.w_dim * value_bytes
        if device.type == "cuda":
            room, least = torch.cuda.mem_get_info(device)[0] // CUDA_SHARE, 1
        else:
            room, least = CPU_KEPT_BYTES if keeps_freed_memory() else CPU_CACHE_BYTES, LEAST_CPU_BATCH
        fitting = max(1, room // image_bytes)
        return min(max(1 << (fitting.bit_length() - 1), least), LARGEST_BATCH)

    @overload
    def sample(
        self,
        count: int,
        seed: int = 0,
        truncation: float = 1.0,
        labels: Classes = None,
        batch_size: int | None = None,
        output: Literal["tensor"] = "tensor",
    ) -> Tensor: ...

    @overload
    def sample(
        self,
        count: int,
        seed: int = 0,
        truncation: float = 1.0,
        labels: Classes = None,
        batch_size: int | None = None,
        *,
        output: Literal["pil"],
    ) -> "list[Image.Image]": ...

    def sample(
        self,
        count: int,
        seed: int = 0,
        truncation: float = 1.0,
        labels: Classes = None,
        batch_size: int | None = None,
        output: str = "tensor",
    ) -> "Tensor | list[Image.Image]":
        """Generates images.

        Args:
            count: How many.
            seed: 0 to 2^63 - 1. Same seed, same latents: the i-th image does not depend on `count` or `batch_size` (beyond
                rounding).
            truncation: psi in [0, 1]; below 1 trades variety for typicality.
            labels: One class for all images, or one for each: indices, names, or a tensor (count,) of indices; default for
                a conditional model: every class in turn, as often as in the training images (`class_counts`).
            batch_size: Images generated at once; default: what is fast, see `fast_batch`.
            output: "tensor" or "pil".

        Returns:
            (count, C, H, W), float32 in [-1, 1], on the model's device; or `count` Pillow images, mode L or RGB.

        Raises:
            UserError: If a number of images is no whole number of at least 1, the seed is out of range, the model has no
                such class, the output is unknown, or the model makes numbers that are not finite.
        """
        checked_choice(output, ("tensor", "pil"), "output")
        images = torch.cat(list(self.batches(count, seed, truncation, labels, batch_size)))
        if output == "tensor":
            return images
        from vitgan.files.pictures import to_array, to_pil

        return [to_pil(image) for image in to_array(images)]

    def _repr_png_(self) -> bytes:
        """What a notebook shows of a generator: the first images of seed 0."""
        from vitgan.files.pictures import enlargement, image_grid

        file = io.BytesIO()
        count, columns = self.grid(SHOWN_IMAGES)
        image_grid(self.sample(count), columns, enlargement(self.image_size)).save(file, "PNG")
        return file.getvalue()
