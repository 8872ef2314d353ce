"""What a model can be called: a path, the name of a bundled model, or a repository on the Hugging Face Hub."""

import difflib
import os
import re
from pathlib import Path

from vitgan.errors import UserError
from vitgan.files import one_line

WEIGHTS, CONFIG = "model.safetensors", "config.json"
NETWORKS, NETWORKS_CONFIG = "networks.safetensors", "networks.json"
"""Beside a model's averaged generator: G and D as they were trained, for `init_from`, and their configuration."""
VAE = "vae"
"""Folder beside a model of latents: the VAE that makes images of them, unless it is on the Hub."""
BUNDLED_MODELS = Path(__file__).parent / "bundled"
HUB_NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


def run_of_checkpoint(path: Path) -> Path | None:
    """The run that a checkpoint's folder lies in, however it is named from here ("." in it, a link); None for others."""
    for place in (Path(os.path.abspath(path)), path.resolve()):  # noqa: PTH100 - `checkpoints` itself may be a link
        if place.parent.name == "checkpoints":
            return place.parent.parent
    return None


def find_model(name: str | Path, endpoint: str | None = None, networks: bool = False) -> Path:
    """The folder or file that a name stands for; a Hub repository is fetched into the Hub's own cache.

    An existing path comes first, then a bundled model, then the Hub ("user/name", optionally "@revision"). A name whose
    first part is a folder here is never asked for on the Hub: it is a mistyped path.

    Args:
        name: A path or a name.
        endpoint: Address of the Hub; default the public one, or `HF_ENDPOINT`.
        networks: Fetch the networks as they were trained too, where the repository has them.

    Raises:
        UserError: If there is nothing of that name (the nearest names are suggested), or the Hub does not give it.
    """
    text = str(name)
    if os.path.exists(text):  # noqa: PTH110 - which answers False, where Path raises, to names too long to be paths
        return Path(text)
    bundled = bundled_models()
    if text in bundled:
        return bundled[text]
    on_hub = HUB_NAME.fullmatch(text)
    if on_hub and not Path(Path(text).parts[0]).is_dir():
        return fetch(on_hub["repository"], on_hub["revision"], endpoint, networks)
    raise UserError(_nothing_there(text, bundled))


def for_others(name: str) -> str:
    """A name for a card: of a path from the root, which tells of this machine and is on no other, the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def bundled_models() -> dict[str, Path]:
    """The models that come with the package: name -> model folder."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED_MODELS.glob(f"*/{CONFIG}"))}


def fetch(repository: str, revision: str | None = None, endpoint: str | None = None, networks: bool = False) -> Path:
    """The model folder of a Hub repository: its configuration and weights, `networks` if asked for, and no other file.

    Without a network, what an earlier call left in the cache is taken.

    Raises:
        UserError: If there is no such repository or revision, it may not be read, it is no model, or neither the Hub
            nor the cache can give it.
    """
    from huggingface_hub import errors, snapshot_download

    name = f"{repository}@{revision}" if revision else repository
    files = [CONFIG, WEIGHTS, f"{VAE}/{CONFIG}", f"{VAE}/*.safetensors"]
    files += [NETWORKS, NETWORKS_CONFIG] if networks else []
    try:
        found = snapshot_download(
            repository, revision=revision, endpoint=endpoint, allow_patterns=files, library_name="vitgan"
        )
    except Exception as error:  # whatever a network or a full disk does to the Hub's client
        match error:
            case errors.GatedRepoError():
                reason = "its authors grant access on request: ask for it there, then log in with `hf auth login`"
            case errors.RevisionNotFoundError():
                reason = f"it has no revision {revision or 'main'}"
            case errors.RepositoryNotFoundError() | errors.HFValidationError():
                reason = "the Hub has no repository of that name that you may read (private ones: `hf auth login`)"
            case errors.LocalEntryNotFoundError():
                reason = "the Hub cannot be asked for it (no network, or HF_HUB_OFFLINE)"
            case _:
                reason = one_line(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        names = ", ".join(bundled_models()) or "none"
        raise UserError(
            f"cannot fetch {name} from the Hub: {reason}; nor is there such a path, or a bundled model ({names})"
        ) from error
    folder = Path(found)
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise UserError(f"the Hub's {name} is no vitgan model: it has no {' and no '.join(missing)}")
    return folder


def _nothing_there(name: str, bundled: dict[str, Path]) -> str:
    near = difflib.get_close_matches(name, [*bundled, *_beside(Path(name))], n=1)
    hint = f"perhaps you meant {near[0]}; " if near else ""
    names = f"a bundled model ({', '.join(bundled)})" if bundled else "a bundled model (this installation has none)"
    return one_line(
        f"there is no model or run at {name}: {hint}give a model folder, a run folder or a checkpoint "
        f"(`vitgan info` lists them), {names} or a Hub repository user/name"
    )


def _beside(path: Path) -> list[str]:
    try:
        return [str(other) for other in path.parent.iterdir() if other.is_dir()]
    except (OSError, ValueError):
        return []
