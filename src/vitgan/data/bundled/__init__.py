"""Images that travel inside the package, so that a first training needs neither a download nor a data set."""

from pathlib import Path

from vitgan.data.download import cache_folder
from vitgan.data.prepare import prepare
from vitgan.data.sources.fashion_mnist import FashionMnist
from vitgan.data.store import ImageStore
from vitgan.errors import UserError
from vitgan.files import lock_file, user_error
from vitgan.files.folders import MARKER, remove_named_files

RESOLUTION = 32


def bundled_fashion_mnist(cache: str | Path | None = None) -> ImageStore:
    """10,000 labelled grey pictures of clothes at 32×32, prepared on first use.

    Safe when several processes ask at once: one prepares, the others wait for it.

    Args:
        cache: Where the store is kept; None for the user's cache folder.

    Raises:
        UserError: The cache folder cannot be written.
    """
    folder = Path(cache) if cache else cache_folder()
    path = folder / f"fashion-mnist-bundled-{RESOLUTION}"
    with user_error(f"cannot write the cache folder {folder}", OSError, advice="set VITGAN_CACHE"):
        folder.mkdir(parents=True, exist_ok=True)
        with lock_file(folder / f".{path.name}.lock"):
            try:
                return ImageStore.open(path)
            except UserError:  # not there, or damaged
                if (path / MARKER).exists():
                    remove_named_files(path)
                return prepare(FashionMnist(), path, resolution=RESOLUTION, workers=0)
