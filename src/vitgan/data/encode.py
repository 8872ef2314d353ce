"""A store of images -> a store of their latents, by a frozen VAE; resumable after a kill."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vitgan.data.store import ImageStore, labels_digest
from vitgan.data.writer import StoreWriter, refuse_existing
from vitgan.errors import UserError
from vitgan.files import user_error
from vitgan.frozen.vae_spec import VaeSpec

LATENTS = np.dtype("<f2")


def encode_store(
    store: ImageStore,
    vae: str,
    destination: str | Path,
    *,
    flips: bool = False,
    device: str = "cpu",
    overwrite: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    on_notice: Callable[[str], None] | None = None,
) -> ImageStore:
    """Encodes each image once: the mean of the VAE's posterior, scaled, as float16.

    If the process is killed, the same call goes on where it was.

    Args:
        store: The images.
        vae: See `vitgan.frozen.vae.open_vae`.
        destination: The latent store's folder to be.
        flips: Behind all images their mirror images, too: latents themselves cannot be flipped.
        device: Where to compute.
        overwrite: Replace a store that is at `destination`.
        on_progress: Called with (latents written, latents in all).
        on_notice: Called with a line that says whether what a killed call left is gone on with.

    Returns:
        The latent store, labelled as the images are.

    Raises:
        UserError: If the images and the VAE do not fit each other, one of them cannot be read, the images were altered, a
            latent is too large for float16, or the store cannot be written.
    """
    from vitgan.frozen.vae import encode, images_at_once, open_vae  # imports torch

    path, images = Path(destination), store.description
    if images.vae is not None:
        raise UserError(f"{store.path} is a latent store already: pass the store of the images")
    if path.resolve() == store.path.resolve():
        raise UserError(f"the latents would take the place of their images in {path}: choose another folder", "out")
    refuse_existing(path, overwrite)
    network, spec = open_vae(vae)
    if images.channels != spec.channels:
        raise UserError(
            f"the images of {store.path} have {images.channels} channel(s), the VAE takes {spec.channels}: prepare them "
            f"with {spec.channels} channel(s)",
            "channels",
        )
    if images.resolution % spec.factor:
        raise UserError(
            f"the images of {store.path} are {images.resolution}×{images.resolution}, and the VAE makes one latent of "
            f"{spec.factor}×{spec.factor} pixels: prepare them at a multiple of {spec.factor}",
            "resolution",
        )
    store.verify()  # their SHA-256 is written down with the latents
    resolution, channels, count = images.resolution // spec.factor, len(spec.scale), len(store) * (2 if flips else 1)
    with StoreWriter(
        path,
        resolution=resolution,
        channels=channels,
        dtype=LATENTS,
        labelled=store.labels is not None,
        overwrite=overwrite,
        images=count,
        fingerprint=_fingerprint(store, spec, flips),
        on_notice=on_notice,
    ) as writer:
        network.to(device)
        at_once = images_at_once(images.resolution, device.partition(":")[0])
        while writer.count < count:
            places = np.arange(writer.count, min(writer.count + at_once, count))
            mirrored = places >= len(store)
            pixels = store.read(places % len(store))
            pixels[mirrored] = pixels[mirrored, :, :, ::-1]
            latents = encode(network, spec, pixels)
            if not (np.abs(latents) <= np.finfo(LATENTS).max).all():  # which a NaN is not either
                raise UserError(
                    f"latents of {vae} are too large for float16: choose another VAE, or mend its scale", "vae"
                )
            writer.append(latents.astype(LATENTS), None if store.labels is None else store.labels[places % len(store)])
            if on_progress:
                on_progress(writer.count, count)
        copies = "mirror images as second copies" if flips else "no flips"
        return writer.finish(
            **images.model_dump(
                include={"source", "split", "split_from", "background", "label_names", "labels_from", "licence", "url"}
            ),
            origin=str(store.path.absolute()),
            framing=f"{images.framing}; latents of {vae}, {copies}",
            vae=spec,
            pixels_sha256=images.sha256,
        )


def pixels_of(store: ImageStore) -> ImageStore:
    """The images that a latent store was encoded from; a store of images itself.

    Raises:
        UserError: If they are no longer where they were.
    """
    if store.vae is None:
        return store
    origin = store.description.origin
    what = f"the images of {store.path} were not found"
    with user_error(what, UserError, advice="pass their store", parameter="data"):
        pixels = ImageStore.open(origin)
    if pixels.description.sha256 != store.description.pixels_sha256:
        raise UserError(f"{origin} holds other images than {store.path} was encoded from: pass their store", "data")
    if _labels(pixels, len(pixels)) != _labels(store, len(pixels)):
        raise UserError(
            f"{origin} labels its images otherwise than {store.path}: encode them again, or pass the store of then",
            "data",
        )
    return pixels


def _labels(store: ImageStore, count: int) -> tuple[str | None, list[str] | None]:
    """What the first images, which mirror images may follow, are labelled: a digest, and the names."""
    if store.labels is None:
        return None, None
    return labels_digest(store.labels[:count]), store.description.label_names


def _fingerprint(store: ImageStore, vae: VaeSpec, flips: bool) -> str:
    """Hex digest of all that the latents depend on."""
    parts = [store.description.sha256, store.description.labels_sha256, vae.sha256, vae.shift, vae.scale, flips]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
