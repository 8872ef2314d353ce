"""What a store looks like: a grid of its images and the distribution of its values."""

import numpy as np
from PIL import Image

from vitgan.data.store import ImageStore
from vitgan.files.pictures import image_grid

SAMPLED_IMAGES = 10_000


def store_grid(store: ImageStore, rows: int = 8, columns: int = 8, seed: int = 0) -> Image.Image:
    """Random images side by side; of a labelled store each row holds one class, the first classes first.

    Places for which there is no image stay black.

    Raises:
        UserError: The picture would exhaust memory.
    """
    generator = np.random.default_rng(seed)
    if store.labels is None:
        chosen = generator.choice(len(store), min(rows * columns, len(store)), replace=False)
        places = list(enumerate(chosen.tolist()))
    else:
        places, classes = [], np.unique(store.labels)[:rows]
        for row, label in enumerate(classes):
            members = np.flatnonzero(store.labels == label)
            chosen = generator.choice(members, min(columns, len(members)), replace=False)
            places += [(row * columns + column, index) for column, index in enumerate(chosen.tolist())]
        rows = len(classes)
    images = store.read(np.array([index for _, index in places]))
    if store.vae is not None:
        from vitgan.frozen.vae import decode_bytes  # imports torch

        images = decode_bytes(store.vae, images)
    tiles = np.zeros((rows * columns, store.image_size, store.image_size, images.shape[1]), np.uint8)
    tiles[[place for place, _ in places]] = images.transpose(0, 2, 3, 1)
    return image_grid(tiles, columns)


def value_histogram(store: ImageStore, seed: int = 0) -> np.ndarray:
    """How often each byte value occurs in each channel, over at most 10,000 random images.

    Returns:
        (C, 256) int64.
    """
    counts = np.zeros((store.channels, 256), np.int64)
    chosen = np.random.default_rng(seed).choice(len(store), min(SAMPLED_IMAGES, len(store)), replace=False)
    for indices in np.array_split(np.sort(chosen), SAMPLED_IMAGES // 100):
        if len(indices):
            for channel, values in enumerate(store.read(indices).transpose(1, 0, 2, 3)):
                counts[channel] += np.bincount(values.reshape(-1), minlength=256)
    return counts


def channel_moments(store: ImageStore, seed: int = 0) -> list[tuple[float, float]]:
    """(mean, standard deviation) of each channel, over at most 1,000 random latents."""
    chosen = np.random.default_rng(seed).choice(len(store), min(SAMPLED_IMAGES // 10, len(store)), replace=False)
    channels = store.read(np.sort(chosen)).astype(np.float32).transpose(1, 0, 2, 3)
    return [(float(values.mean()), float(values.std())) for values in channels]


def class_counts(store: ImageStore) -> list[tuple[str, int]]:
    """(name, images) of each class in order of the labels; empty without labels."""
    if store.labels is None:
        return []
    counts = np.bincount(store.labels, minlength=store.label_count).tolist()
    names = store.description.label_names or []
    names = names + [str(label) for label in range(len(names), len(counts))]
    return list(zip(names, counts, strict=True))
