"""Own callbacks: a table of the losses, and an end when D has won. A few minutes on a CPU.

The hook is `vitgan.Hooks`: functions that the training calls. `should_stop` saves a checkpoint and ends the run; it goes on
with `vitgan train --resume RUN`.
"""

import csv
from pathlib import Path

import vitgan


class Watcher:
    """Writes a line for every record of the log, and looks at how far apart D sees real and fake images."""

    def __init__(self, file: Path, largest_gap: float) -> None:
        self.file, self.largest_gap, self.gap = file, largest_gap, 0.0

    def on_log(self, record: dict[str, float]) -> None:
        """Called with what goes into metrics.jsonl."""
        self.gap = record["logits/real"] - record["logits/fake"]
        with self.file.open("a", newline="") as file:
            csv.writer(file).writerow([record["images"], record["loss/generator"], self.gap])

    def should_stop(self) -> bool:
        """Asked after every step."""
        return self.gap > self.largest_gap


def main(kimg: float = 10, out: str | Path = "runs", largest_gap: float = 20) -> Path:
    """Trains on the bundled images of clothes; returns the run's folder."""
    Path(out).mkdir(exist_ok=True)
    watcher = Watcher(Path(out) / "losses.csv", largest_gap)
    hooks = vitgan.Hooks(on_log=watcher.on_log, should_stop=watcher.should_stop)
    config = vitgan.preset("quickstart", **{"training.total_kimg": kimg, "training.log_every_kimg": min(kimg / 2, 1)})
    return vitgan.train(config, out, hooks=hooks)


if __name__ == "__main__":
    print(main())
