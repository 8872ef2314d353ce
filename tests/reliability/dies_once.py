"""`vitgan`, but its process of rank 1 is killed before its fourth step, once.

`python -m reliability.dies_once MARK train ...`, where MARK is a file that tells whether it was.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Any

from vitgan.cli.main import main
from vitgan.training.step import GanStep

FATAL_STEP = 3


def dying(mark: Path, step: Any) -> Any:
    """The step, with the end before it."""

    def take(self: GanStep, *arguments: Any) -> Any:
        if self.state.step == FATAL_STEP and os.environ["RANK"] == "1" and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return step(self, *arguments)

    return take


if __name__ == "__main__":
    GanStep.__call__ = dying(Path(sys.argv.pop(1)), GanStep.__call__)
    main()
