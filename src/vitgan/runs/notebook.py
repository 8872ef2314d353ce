"""Progress in a notebook: a line and the newest images, in the cell that trains."""

import sys
from pathlib import Path
from typing import Any

from vitgan.config import RunConfig
from vitgan.training.hooks import Hooks


def in_notebook() -> bool:
    """Whether this process runs the cells of a notebook."""
    shell: Any = sys.modules.get("IPython")
    return shell is not None and hasattr(shell.get_ipython(), "kernel")


def notebook_hooks(config: RunConfig) -> Hooks:
    """Hooks that show a run's progress below the cell: one line and one picture, each replaced by the next."""
    from IPython.display import Image, display

    line: Any = display({"text/plain": "starting"}, raw=True, display_id=True)
    picture: Any = display({"text/plain": ""}, raw=True, display_id=True)

    def on_log(record: dict[str, float]) -> None:
        done = f"{record['images'] / 1000:.1f} of {config.training.total_kimg:g} kimg"
        losses = f"D loss {record['loss/discriminator']:.2f}, G loss {record['loss/generator']:.2f}"
        line.update({"text/plain": f"{done}, {record['images_per_second']:.0f} images/s, {losses}"}, raw=True)

    def on_samples(path: Path) -> None:
        picture.update(Image(filename=str(path)))

    return Hooks(on_log=on_log, on_samples=on_samples, on_notice=print)
