"""Images whose pixels are equal, found by hash."""

import hashlib

import numpy as np


def image_digests(images: np.ndarray) -> np.ndarray:
    """(n, C, H, W) uint8 images -> (n,) uint64, equal for equal images and (but for chance 2^-64) only for those."""
    digests = [hashlib.blake2b(image.tobytes(), digest_size=8).digest() for image in images]
    return np.frombuffer(b"".join(digests), np.uint64)


def find_duplicates(digests: np.ndarray) -> list[tuple[int, int]]:
    """(n,) digests -> (index of the first copy, index of a later copy), ordered by the later one."""
    _, first, inverse = np.unique(digests, return_index=True, return_inverse=True)
    original = first[inverse.reshape(-1)]
    later = np.flatnonzero(original != np.arange(len(digests)))
    return [(int(original[index]), int(index)) for index in later]
