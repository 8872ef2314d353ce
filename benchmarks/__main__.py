"""`make bench`: every benchmark, one after the other, about ten minutes on two cores that have nothing else to do."""

import importlib
import time
from pathlib import Path

import tyro

from benchmarks.table import Table, say

SUBJECTS = ("machine", "step", "parts", "sampling", "evaluation", "data", "startup", "memory", "tokens", "processes")


def main(only: tuple[str, ...] = SUBJECTS, out: Path | None = None) -> None:
    """Measures this machine and prints Markdown tables.

    Args:
        only: Which subjects; each is also a program of its own, `python -m benchmarks.SUBJECT --help`.
        out: Write the tables into this file, too, after each subject.
    """
    sections: list[str] = []
    for subject in only:
        start = time.monotonic()
        try:
            found = importlib.import_module(f"benchmarks.{subject}").measure()
        except ImportError as error:  # what is not installed is not measured
            found = Table(subject.capitalize(), ("not measured",), [(str(error),)])
        for table in found if isinstance(found, list) else [found]:
            print(table, flush=True)
            sections.append(str(table))
        say(f"({subject} took {time.monotonic() - start:.0f} s)")
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("\n".join(sections), "utf-8")


if __name__ == "__main__":
    tyro.cli(main)
