"""What trackers show: the configuration, the metrics and the sample grids, as the run has them."""

import sys
from pathlib import Path
from types import SimpleNamespace

import accelerate.tracking
import numpy as np
import pytest
from accelerate.tracking import GeneralTracker
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, TENSORS, EventAccumulator

import vitgan
from tiny import tiny_run
from vitgan.config import flat
from vitgan.errors import UserError
from vitgan.training.log import read_metrics
from vitgan.training.trackers import tell_configuration, tell_images


def colours() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)


def test_tensorboard_shows_the_grids_the_metrics_and_the_configuration(tmp_path: Path) -> None:
    run = vitgan.train(tiny_run("unused", trackers=("tensorboard",)), tmp_path, data=colours())
    events = EventAccumulator(str(run / "tensorboard"), {IMAGES: 0, SCALARS: 0, TENSORS: 0}).Reload()
    grids = sorted((run / "samples").glob("*.png"))
    shown = events.Images("samples")
    assert [image.step for image in shown] == [0, 8, 16, 24]
    for image, grid in zip(shown, grids, strict=True):
        (tmp_path / "shown.png").write_bytes(image.encoded_image_string)
        assert np.array_equal(np.asarray(Image.open(tmp_path / "shown.png")), np.asarray(Image.open(grid)))
    records = read_metrics(run / "metrics.jsonl")
    losses = [(value.step, value.value) for value in events.Scalars("loss/generator")]
    assert losses == [(record["images"], pytest.approx(record["loss/generator"])) for record in records]
    text = events.Tensors("config/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| training.batch_size | 4 |" in text
    assert [path for path in (run / "tensorboard").iterdir() if path.is_dir()] == []  # one run, not several


def refuse(*_: object, **__: object) -> None:
    raise RuntimeError("no\nroom")


def inside(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("folder", [None, "own"])
def test_a_tracker_that_cannot_start_is_one_line_and_leaves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str | None
) -> None:
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.add_text", refuse)  # when its files are made
    config, own = tiny_run("unused", trackers=("tensorboard",)), tmp_path / folder if folder else None
    with pytest.raises(UserError) as error:
        vitgan.train(config, tmp_path, data=colours(), folder=own)
    assert error.value.parameter == "training.trackers"
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {"data"}


def test_a_run_is_as_it_was_if_a_tracker_cannot_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_run("unused")
    run = vitgan.train(config, tmp_path, data=colours())
    before = inside(run)
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter.__init__", refuse)
    longer = config.training.model_copy(update={"trackers": ("tensorboard",), "total_kimg": 0.048})
    with pytest.raises(UserError):
        vitgan.train(config.model_copy(update={"training": longer}), resume=run, data=colours())
    assert inside(run) == before


def test_a_tracker_gets_a_folder_where_it_needs_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Folders(Listener):
        name = "folders"
        requires_logging_directory = True

        def __init__(self, project: str, folder: Path) -> None:
            super().__init__()
            folders.append(folder)

    folders: list[Path] = []
    monkeypatch.setitem(accelerate.tracking.LOGGER_TYPE_TO_CLASS, "folders", Folders)
    monkeypatch.setattr("vitgan.runs.train.check_trackers", lambda names: None)
    run = vitgan.train(tiny_run("unused", trackers=("folders",)), tmp_path, data=colours())
    assert folders == [run]


class Listener(GeneralTracker):
    """A service that takes what accelerate's interface has."""

    name = "wandb"
    requires_logging_directory = False
    tracker = None

    def store_init_configuration(self, values: dict) -> None:
        self.values = values

    def log(self, values: dict, step: int | None = None, **options: object) -> None: ...


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
def test_grids_go_to_each_tracker_in_its_own_way(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the libraries themselves take them: tried with wandb 0.31, mlflow 3.17, trackio 0.43."""
    told: list[tuple[object, object]] = []
    library = SimpleNamespace(
        log_image=lambda image, key, step: told.append((step, {key: image})), Image=lambda image: image
    )
    monkeypatch.setitem(sys.modules, name, library)
    tracker = SimpleNamespace(name=name)
    tracker.log_images = lambda values, step: told.append((step, {key: image for key, (image,) in values.items()}))
    tracker.log = lambda values, step: told.append((step, values))
    grid = Image.fromarray(colours()[0])
    tell_images(tracker, grid, 128)
    ((step, values),) = told
    assert step == 128
    assert isinstance(values, dict)
    assert np.array_equal(values["samples"], np.asarray(grid))


def test_other_trackers_get_plain_values_and_one_that_takes_no_images_is_left_in_peace() -> None:
    listener = Listener()
    values = dict(flat(tiny_run("unused").model_dump(mode="json")))
    tell_configuration(listener, values)
    assert listener.values.keys() == values.keys()
    assert listener.values["training.batch_size"] == 4
    assert {type(value) for value in listener.values.values()} <= {bool, int, float, str}
    listener.name = "dvclive"
    tell_images(listener, Image.new("L", (4, 4)), 0)
