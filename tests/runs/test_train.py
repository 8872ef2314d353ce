"""How a run is set up, beyond what training and the command line test of it."""

from pathlib import Path
from typing import Any, ClassVar

import pytest
from accelerate import tracking

import vitgan
from tiny import tiny_run, write_images
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder


class Remote(tracking.GeneralTracker):
    """Takes the place of a service that keeps runs by project."""

    name = "wandb"
    requires_logging_directory = False
    projects: ClassVar[list[str]] = []
    tracker = None

    def __init__(self, run_name: str, **options: Any) -> None:
        super().__init__()
        self.projects.append(run_name)

    def store_init_configuration(self, values: dict[str, Any]) -> None: ...

    def log(self, values: dict[str, Any], step: int | None = None, **options: Any) -> None: ...


def test_each_tracker_gets_a_name_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = [tracking.LoggerType.TENSORBOARD, tracking.LoggerType.WANDB]
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: kinds)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Remote)
    prepare(ImageFolder(write_images(tmp_path / "images")), tmp_path / "store", resolution=8, workers=0)
    config = tiny_run(str(tmp_path / "store"), total_kimg=0.004, trackers=("wandb", "tensorboard"))
    run = vitgan.train(config, tmp_path / "runs")
    assert Remote.projects == ["vitgan"]
    assert any(path.is_file() for path in (run / "tensorboard").iterdir())
