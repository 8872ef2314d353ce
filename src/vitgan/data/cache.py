"""Where downloads and prepared bundled images are kept between runs."""

import os
from pathlib import Path

from vitgan.errors import UserError


def cache_folder() -> Path:
    """The user's cache folder, made if absent: $VITGAN_CACHE, else $XDG_CACHE_HOME/vitgan, else ~/.cache/vitgan.

    Raises:
        UserError: The folder cannot be made.
    """
    own = os.environ.get("VITGAN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    folder = Path(own) if own else (Path(shared) if shared else Path.home() / ".cache") / "vitgan"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the cache folder {folder} ({error.strerror}): set VITGAN_CACHE") from error
    return folder
