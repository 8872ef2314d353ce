"""Any images that somebody has -> the store that a run trains on."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitgan.config import RunConfig
from vitgan.data.prepare import plan, prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.objects import PythonImages
from vitgan.data.sources.source import Source
from vitgan.data.store import DESCRIPTION, IMAGES, ImageStore
from vitgan.errors import UserError
from vitgan.files.writing import lock_file
from vitgan.runs.folder import BUNDLED_DATA


def with_images(
    config: RunConfig, data: Any, folder: Path, on_notice: Callable[[str], object] = lambda line: None
) -> RunConfig:
    """The configuration for a run on these images, which are prepared at its resolution, once, unless they are a store.

    Args:
        config: Its `data` is replaced, and the model's channels become those of the images: 1 where all are grey arrays,
            else 3.
        data: A store or its folder, "fashion-mnist", a folder, zip or tar of images, a `Source`, or
            what `PythonImages` reads.
        folder: Where stores are kept; the same images prepared in the same way are not prepared again.
        on_notice: Told where they are.

    Raises:
        UserError: If these are no images, or the folder cannot be written.
    """
    if isinstance(data, ImageStore):
        data = data.path
    if isinstance(data, str | Path) and (str(data) == BUNDLED_DATA or _is_store(Path(data))):
        return config.model_copy(update={"data": str(data)})
    source = (
        data if isinstance(data, Source) else ImageFolder(data) if isinstance(data, str | Path) else PythonImages(data)
    )
    channels = source.channels if isinstance(source, PythonImages) else source.provenance.channels
    model = config.model.model_copy(update={"channels": channels})
    framing = plan(source, resolution=model.resolution, channels=channels).framing
    digest = hashlib.sha256(f"{source.fingerprint()} {framing}{channels}".encode()).hexdigest()[:12]
    name = Path(source.origin).resolve().name if source.origin else source.provenance.name
    store = folder / f"{name[:100]}-{model.resolution}-{digest}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file(folder / ".lock"):  # another process may be preparing the same
            if not store.exists():
                prepare(source, store, resolution=model.resolution, channels=channels)
    except OSError as error:
        raise UserError(f"cannot prepare images in {folder}: {error.strerror}; choose another folder", "out") from error
    on_notice(f"images: {store}")
    return config.model_copy(update={"data": str(store), "model": model})


def _is_store(path: Path) -> bool:
    return all((path / name).is_file() for name in (DESCRIPTION, IMAGES))
