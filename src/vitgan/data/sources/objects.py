"""Images that Python holds: an array, a tensor, or a data set of torch's or Hugging Face's, known by what it can do."""

import hashlib
import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vitgan.data.decode import scale_transparent_colour
from vitgan.data.labels import labels_of_values
from vitgan.data.sources.source import Provenance, Source, UnreadableImage
from vitgan.errors import UserError, one_line
from vitgan.files import user_error

IMAGE_KEYS, LABEL_KEYS = ("image", "img"), ("label", "labels")
EXPECTED = (
    "expected a Pillow image, an array (H, W, C) or a tensor (C, H, W), C 1 or 3, uint8 or floating point in [0, 1]"
)


class PythonImages(Source):
    """Images that Python holds, each read twice: once to know them again, once to store them.

    Args:
        data: One of
            - an array (N, H, W, C) or (N, H, W), or a tensor (N, C, H, W), uint8 or floating point in [0, 1];
            - a pair of such images and their labels (N,), of the kinds that `labels_of_values` knows;
            - anything with a length and items by number, as `torch.utils.data.Dataset` and `datasets.Dataset` have: an
              item is an image, a pair of image and label, or a mapping with "image" (or "img") and "label".
        files: What these were read from, if anything.

    Attributes:
        channels: 1 if all images are grey, else 3.

    Raises:
        UserError: It is none of these, is empty, or holds something else than images and labels.
    """

    provenance = Provenance("python")
    in_memory = True

    def __init__(self, data: Any, files: Iterable[Path] = ()) -> None:
        self.origin = type(data).__name__
        if _is_array(data):
            data = _pairs(data, None)
        elif isinstance(data, tuple) and len(data) == 2 and _is_array(data[0]):
            data = _pairs(*data)
        if isinstance(data, Mapping):
            raise UserError(f"data is a mapping: pass one of its values ({', '.join(map(str, data))})", "data")
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, str | bytes):
            expected = "a folder, an array (N, H, W, C), a tensor (N, C, H, W), or a data set with a length and items"
            raise UserError(f"data is {type(data).__name__}: pass {expected}", "data")
        self._data, self._files = data, list(files)
        self.label_names = self.label_names or _label_names(data)
        self._scan()

    def _scan(self) -> None:
        """Looks at every image once."""
        digest, labels, grey, brightest = hashlib.sha256(), [], True, 0
        for index in range(len(self)):
            image, label = self._item(index)
            array = image if isinstance(image, np.ndarray) else np.frombuffer(image, np.uint8)
            grey = grey and isinstance(image, np.ndarray) and image.ndim == 2
            brightest = max(brightest, array.max())
            digest.update(f"{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
            labels.append(label.tolist() if hasattr(label, "tolist") else label)
        if labels and brightest <= 1 and not self._files:
            raise UserError(
                "all images are black, their values are at most 1 of 255: pass them as floating point", "data"
            )
        self.channels, self._digest = 1 if grey else 3, digest.hexdigest()
        with user_error("the labels of the data are none", UserError, parameter="data"):
            source = self.labels_from or "the data set"
            self.take_labels(labels_of_values(labels, source, self.label_names, insist=True))

    def __len__(self) -> int:
        return len(self._data)

    def name(self, index: int) -> str:
        return f"{self.split}/{index}" if self.split else str(index)

    def files(self) -> Iterable[Path]:
        return self._files

    def read(self, index: int) -> bytes | np.ndarray:
        return self._item(index)[0]

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{super().fingerprint()} {self._digest}".encode()).hexdigest()

    def _item(self, index: int) -> tuple[bytes | np.ndarray, Any]:
        try:
            item = self._data[index]
        except Exception as error:  # somebody else's code
            reason = one_line(f"{type(error).__name__}: {error}", 200)
            raise UserError(f"item {index} of the data cannot be read: {reason}", "data") from error
        if isinstance(item, Mapping):
            image = next((item[key] for key in IMAGE_KEYS if key in item), None)
            label = next((item[key] for key in LABEL_KEYS if key in item), None)
        elif isinstance(item, tuple | list):
            image, label = item[0] if item else None, item[1] if len(item) > 1 else None
        else:
            image, label = item, None
        return _pixels(image, index), label


def _pairs(images: Any, labels: Any) -> list[tuple[Any, Any]]:
    """An array or tensor of images with labels, as a data set."""
    if images.ndim not in (3, 4):
        raise UserError(f"the images have the shape {tuple(images.shape)}: expected (N, H, W, C)", "data")
    if images.ndim == 3 and images.shape[0 if _is_tensor(images) else 2] in (1, 3):
        shape = f"the shape {tuple(images.shape)}, which is one image or grey ones"
        raise UserError(f"the images have {shape}: give them four dimensions, as images[None] has of one image", "data")
    labels = [None] * len(images) if labels is None else labels
    if len(labels) != len(images):
        raise UserError(f"there are {len(images):,} images and {len(labels):,} labels: pass as many", "data")
    return list(zip(images, labels, strict=True))


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) or _is_tensor(value)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "detach") and hasattr(value, "numpy")


def _pixels(image: Any, index: int) -> bytes | np.ndarray:
    """(H, W) or (H, W, 3) uint8, or the bytes of a PNG where Pillow's mode is another."""
    if isinstance(image, Image.Image) and image.mode not in ("I", "F"):  # which have no stated range
        with user_error(f"item {index} of the data", UnreadableImage, parameter="data"):
            scale_transparent_colour(image)
        image = ImageOps.exif_transpose(image)  # as from files
        if image.has_transparency_data or image.mode == "I;16":
            buffer = io.BytesIO()
            (image if image.mode == "I;16" else image.convert("RGBA")).save(buffer, "PNG")
            return buffer.getvalue()
        return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))
    array: Any = image
    if _is_tensor(array):
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
        array = array.transpose(1, 2, 0) if array.ndim == 3 else array
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or array.shape[2:] not in ((), (1,), (3,)):
        shape = getattr(image, "shape", "")
        raise UserError(f"item {index} of the data has {type(image).__name__} {tuple(shape)}: {EXPECTED}", "data")
    if array.dtype.kind == "f" and array.size and array.min() >= 0 and array.max() <= 1:
        array = (array.astype(np.float64) * 255).round().astype(np.uint8)
    if array.dtype != np.uint8 or not array.size:
        values = f", from {array.min():.4g} to {array.max():.4g}" if array.size else ", empty"
        raise UserError(f"item {index} of the data has {array.dtype} values{values}: {EXPECTED}", "data")
    return array[:, :, 0] if array.shape[2:] == (1,) else array


def _label_names(data: Any) -> list[str] | None:
    """Names of classes as torchvision (`classes`) and `datasets` (`features`) have them."""
    names = getattr(data, "classes", None)
    features = getattr(data, "features", None)
    if isinstance(features, Mapping):
        names = next((getattr(features[key], "names", None) for key in LABEL_KEYS if key in features), None)
    if isinstance(names, Mapping):  # name -> number
        name_of = {number: name for name, number in names.items() if isinstance(number, int | np.integer)}
        names = [name_of.get(number) for number in range(len(names))]
    names = names.tolist() if isinstance(names, np.ndarray) else names
    if not isinstance(names, list | tuple) or len(names) == 0 or not all(isinstance(name, str) for name in names):
        return None
    return [str(name) for name in names]
