"""What a model can be called: a path, the name of a bundled model, or a repository on the Hugging Face Hub."""

import difflib
import os
import re
from pathlib import Path

from vitgan.errors import UserError, one_line
from vitgan.files import user_error
from vitgan.files.hub import fetch_repository

WEIGHTS, CONFIG = "model.safetensors", "config.json"
STATE = "state.json"
"""What every whole checkpoint has (`vitgan.training.checkpoint`, which needs torch)."""
NETWORKS, NETWORKS_CONFIG = "networks.safetensors", "networks.json"
"""Beside a model's averaged generator: G and D as they were trained, for `init_from`, and their configuration."""
VAE = "vae"
"""Folder beside a model of latents: the VAE that makes images of them, unless it is on the Hub."""
BUNDLED_MODELS = Path(__file__).parent / "bundled"
HUB_NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


def run_of_checkpoint(path: Path) -> Path | None:
    """The run that a checkpoint's folder lies in, however it is named from here ("." in it, a link); None for others."""
    for place in (Path(os.path.abspath(path)), path.resolve()):  # noqa: PTH100 - `checkpoints` itself may be a link
        run = place.parent.parent
        if place.parent.name == "checkpoints" and ((place / STATE).is_file() or (run / CONFIG).is_file()):
            return run
    return None


def is_run(path: Path) -> bool:
    """Whether a folder is a run, and no other that has a folder `checkpoints` in it."""
    inside = path / "checkpoints"
    return inside.is_dir() and ((path / CONFIG).is_file() or any(inside.glob(f"*/{STATE}")))


def find_model(name: str | Path, networks: bool = False) -> Path:
    """The folder or file that a name stands for; a Hub repository is fetched into the Hub's own cache.

    An existing path comes first, then a bundled model, then the Hub ("user/name", optionally "@revision"). A name whose
    first part is a folder here is never asked for on the Hub: it is a mistyped path.

    Args:
        name: A path or a name.
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
        with user_error(f"there is no path {text} and no bundled model of that name ({', '.join(bundled)})", UserError):
            return fetch(on_hub["repository"], on_hub["revision"], networks)
    raise UserError(_nothing_there(text, bundled))


def for_others(name: str) -> str:
    """A name for a card: of a path from the root, which tells of this machine and is on no other, the last part."""
    return Path(name).name if Path(name).is_absolute() else name


def bundled_models() -> dict[str, Path]:
    """The models that come with the package: name -> model folder."""
    return {path.parent.name: path.parent for path in sorted(BUNDLED_MODELS.glob(f"*/{CONFIG}"))}


def fetch(repository: str, revision: str | None = None, networks: bool = False) -> Path:
    """The model folder of a Hub repository: its configuration and weights, `networks` if asked for, and no other file.

    Raises:
        UserError: If the Hub does not give it, or it is no model.
    """
    files = [CONFIG, WEIGHTS, f"{VAE}/{CONFIG}", f"{VAE}/*.safetensors"]
    files += [NETWORKS, NETWORKS_CONFIG] if networks else []
    folder = fetch_repository(repository, files, revision=revision)
    missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise UserError(f"the Hub's {repository} is no vitgan model: it has no {' and no '.join(missing)}")
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
