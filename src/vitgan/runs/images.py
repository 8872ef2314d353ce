"""Any images that somebody has -> the store that a run trains on."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitgan.config import RunConfig
from vitgan.data.prepare import plan, prepare
from vitgan.data.sources.guess import guess_source
from vitgan.data.sources.hub import SCHEME
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Source
from vitgan.data.store import ImageStore
from vitgan.files import lock_file, user_error
from vitgan.runs.folder import is_bundled, is_store


def with_images(
    config: RunConfig,
    data: Any,
    folder: Path,
    on_notice: Callable[[str], object] = lambda line: None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RunConfig:
    """The configuration for a run on these images, which are prepared at its resolution, once, unless they are a store.

    Args:
        config: Its `data` is replaced, and the model's channels become those of the images: 1 where all are grey arrays,
            else 3. Without labels it becomes unconditional.
        data: A store or its folder, "fashion-mnist", whatever `guess_source` reads (a folder, zip or tar of
            images, say), a `Source`, or what `PythonImages` reads.
        folder: Where stores are kept; the same images prepared in the same way are not prepared again.
        on_notice: Told what is taken, before the work, and where the store is.
        on_progress: Called with (images prepared, images in all).

    Raises:
        UserError: If these are no images, or the folder cannot be written.
    """
    if isinstance(data, ImageStore):
        data = data.path
    if isinstance(data, str | Path) and (is_bundled(str(data)) or is_store(data)):
        return config.model_copy(update={"data": str(data)})
    source = (
        data if isinstance(data, Source) else guess_source(data) if isinstance(data, str | Path) else PythonImages(data)
    )
    channels = source.channels if isinstance(source, PythonImages) else source.provenance.channels
    if channels != config.model.channels:  # which somebody may have asked for
        on_notice(
            f"the images have {channels} channel(s) here, so the model has as many, and not {config.model.channels}"
        )
    model = config.model.model_copy(update={"channels": channels})
    if model.conditional and source.labels is None:
        on_notice(f"the images have no labels ({source.labels_from}): the model is trained without classes")
        model = model.model_copy(update={"conditional": False})
    planned = plan(source, resolution=model.resolution, channels=channels)
    framing = planned.framing
    digest = hashlib.sha256(f"{source.fingerprint()} {framing}{channels}".encode()).hexdigest()[:12]
    place = data if isinstance(data, str | Path) else source.origin
    name = Path(place).resolve().name if place else source.provenance.name
    store = folder / f"{name[:100]}-{model.resolution}-{digest}"
    advice = "choose another folder"
    with user_error(f"cannot prepare images in {folder}", OSError, advice=advice, parameter="out"):
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file(folder / ".lock"):  # another process may be preparing the same
            if not store.exists():
                on_notice(
                    f"preparing {planned.images:,} images ({source.provenance.name}; split: {source.split or 'none'}; "
                    f"labels: {source.labels_from}): {framing}"
                )
                prepare(source, store, resolution=model.resolution, channels=channels, on_progress=on_progress)
    made = ImageStore.open(store).description
    about = ""
    if made.skipped:
        name, reason = made.skipped[0].name, made.skipped[0].reason
        about = f"; skipped: {made.skipped_count:,}, listed in its dataset.json, the first {name}: {reason}"
    on_notice(f"images: {made.count:,} in {store}{about}")
    return config.model_copy(update={"data": str(store), "model": model})


def holds_images_to_prepare(path: str) -> bool:
    """Whether a configuration's `data` is something else than a store: a folder or archive of images, say."""
    if path.startswith(SCHEME):
        return True
    return os.path.exists(path) and not is_store(path)  # noqa: PTH110 - False for odd names
