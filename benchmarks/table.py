"""What a benchmark hands back: one table, printed as Markdown, and progress on stderr."""

import sys
from dataclasses import dataclass, field


@dataclass
class Table:
    """A titled table of strings with a remark below."""

    title: str
    columns: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """One more row."""
        assert len(cells) == len(self.columns)
        self.rows.append(cells)

    def __str__(self) -> str:
        lines = [self.columns, ("---",) * len(self.columns), *self.rows]
        widths = [max(len(row[i]) for row in lines) for i in range(len(self.columns))]
        table = ["| " + " | ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) + " |" for row in lines]
        return "\n".join([f"## {self.title}", "", *table, *(f"\n{remark}" for remark in self.remarks), ""])


def say(line: str) -> None:
    """Tells a waiting person what is being measured."""
    print(line, file=sys.stderr, flush=True)
