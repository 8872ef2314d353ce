"""Whatever holds images can be trained on: the pixels of the store are those of the array, folder or data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset, Subset, TensorDataset

import vitgan
from tiny import tiny_model, tiny_run, write_images
from vitgan.config import RunConfig
from vitgan.data.prepare import prepare
from vitgan.data.sources.folder import ImageFolder
from vitgan.data.sources.objects import PythonImages
from vitgan.errors import UserError
from vitgan.presets import replaced
from vitgan.runs.folder import config_of_run, data_of_run
from vitgan.runs.images import holds_images_to_prepare, with_images

COUNT = 12


def pixels(channels: int = 3) -> np.ndarray:
    """(12, 8, 8, C) uint8."""
    return np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, channels), dtype=np.uint8)


class Pairs(Dataset):
    """As torchvision's data sets are: (image, label), and names of classes."""

    classes = ("cat", "dog")

    def __init__(self, images: Any) -> None:
        self.images = images

    def __len__(self) -> int:
        return COUNT

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.images[index], index % 2


class Broken:
    def __getitem__(self, index: int) -> None:
        raise RuntimeError("two\nlines")


class Names:
    names = ("cat", "dog")


class Rows(Pairs):
    """As `datasets.Dataset` is: rows, and features that have the names."""

    classes = None
    features = {"img": object(), "label": Names()}  # noqa: RUF012

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"img": self.images[index], "label": index % 2}


def channels_first() -> torch.Tensor:
    return torch.from_numpy(pixels()).permute(0, 3, 1, 2)


HOLDERS = {
    "array": pixels,
    "array of floats": lambda: pixels().astype(np.float32) / 255,
    "tensor": channels_first,
    "tensor of floats": lambda: channels_first().float() / 255,
    "tensor of halves": lambda: (channels_first().double() / 255).to(torch.float16),
    "labelled array": lambda: (pixels(), np.arange(COUNT) % 2),
    "labelled tensor": lambda: (channels_first(), torch.arange(COUNT) % 2),
    "torch tensors": lambda: TensorDataset(channels_first(), torch.arange(COUNT) % 2),
    "torch data set": lambda: Pairs(channels_first().float() / 255),
    "torch subset": lambda: Subset(Pairs(pixels()), range(COUNT)),
    "Hugging Face data set": lambda: Rows([Image.fromarray(image) for image in pixels()]),
    "images with opaque alpha": lambda: [Image.fromarray(image).convert("RGBA") for image in pixels()],
}


@pytest.mark.parametrize("name", HOLDERS)
def test_pixels_and_labels_are_kept(tmp_path: Path, name: str) -> None:
    notices: list[str] = []
    data = HOLDERS[name]()
    config = with_images(tiny_run("unused"), data, tmp_path, notices.append)
    store = vitgan_store(config)
    assert np.array_equal(store.images, pixels().transpose(0, 3, 1, 2))
    labelled = name not in (
        "array",
        "array of floats",
        "tensor",
        "tensor of floats",
        "tensor of halves",
        "images with opaque alpha",
    )
    assert (store.labels is not None) == labelled
    if labelled:
        assert store.labels.tolist() == [index % 2 for index in range(COUNT)]
    named = name in ("torch data set", "Hugging Face data set")
    assert store.description.label_names == (["cat", "dog"] if named else None)
    before = store.path.stat().st_mtime_ns
    assert with_images(tiny_run("unused"), HOLDERS[name](), tmp_path).data == config.data  # not prepared again
    assert store.path.stat().st_mtime_ns == before
    assert len(notices) == 2


def vitgan_store(config: RunConfig) -> Any:
    from vitgan.runs.folder import open_data

    return open_data(config.data)


def test_a_run_trains_on_an_array_and_finds_it_again(tmp_path: Path) -> None:
    run = vitgan.train(tiny_run("unused", total_kimg=0.008), tmp_path, data=pixels(1))
    assert config_of_run(run).model.channels == 1  # the configuration said 3
    assert np.array_equal(data_of_run(run).images[:, 0], pixels(1)[..., 0])
    longer = config_of_run(run)
    longer = longer.model_copy(update={"training": longer.training.model_copy(update={"total_kimg": 0.012})})
    vitgan.train(longer, resume=run)
    assert vitgan.load(run).sample(1).shape == (1, 1, 8, 8)


def test_a_folder_is_prepared_once_and_a_store_is_taken_as_it_is(tmp_path: Path) -> None:
    images = write_images(tmp_path / "photos")
    config = with_images(tiny_run("unused"), images, tmp_path / "data")
    expected = prepare(ImageFolder(images), tmp_path / "store", resolution=8, workers=0)
    assert np.array_equal(vitgan_store(config).images, expected.images)
    assert with_images(tiny_run("unused"), str(images), tmp_path / "data") == config
    for store in (expected, expected.path, str(expected.path)):
        assert with_images(tiny_run("unused"), store, tmp_path / "data").data == str(expected.path)
    assert with_images(tiny_run("unused"), "fashion-mnist", tmp_path / "data").data == "fashion-mnist"
    write_images(images, count=13)
    assert with_images(tiny_run("unused"), images, tmp_path / "data").data != config.data


@pytest.mark.parametrize(("channels", "lines"), [(1, 3), (3, 2)])
def test_other_channels_than_the_configuration_asked_for_are_told_of(tmp_path: Path, channels: int, lines: int) -> None:
    """A folder of files becomes RGB images."""
    config, told = replaced(tiny_run("unused"), model=tiny_model(channels)), list[str]()
    config = with_images(config, write_images(tmp_path / "photos"), tmp_path / "data", told.append)
    assert config.model.channels == 3
    assert len(told) == lines


def test_a_preset_by_name_is_trained_on_own_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunConfig] = []
    monkeypatch.setattr("vitgan.runs.train._train", lambda run, config, *_: seen.append(config))
    vitgan.train("quickstart", tmp_path, data=pixels())
    (config,) = seen
    expected = vitgan.preset("quickstart", **{"model.channels": 3, "model.conditional": False})  # they have no labels
    assert config == expected.model_copy(update={"data": config.data})


def with_info(image: Image.Image, **info: object) -> Image.Image:
    """As Pillow opens a file that says more than pixels: here a colour of 16 bits."""
    image.info |= info
    return image


@pytest.mark.parametrize(
    "data",
    [
        3,
        [],
        "no such folder",
        {"train": Rows([])},
        iter([1]),
        pixels().astype(np.int64),
        (pixels() > 127).astype(np.uint8),
        pixels().astype(np.float32),
        pixels().astype(np.float32) / 127.5 - 1,
        pixels().transpose(0, 3, 1, 2),
        torch.from_numpy(pixels()),
        pixels()[0, 0],
        pixels()[0],
        torch.from_numpy(pixels()[0].transpose(2, 0, 1).copy()),
        np.full((2, 8, 8, 3), np.nan, np.float32),
        np.zeros((0, 8, 8, 3), np.uint8),
        (pixels(), [1, 2]),
        (pixels(), [{"cat"}] * COUNT),
        (pixels(), np.full(COUNT, 0.5)),
        (pixels(), [1 << 20] * COUNT),
        (pixels(), [-2] * COUNT),
        ["a.png"] * COUNT,
        Pairs({}),
        Pairs(Broken()),
        [Image.new("F", (8, 8))],
        [with_info(Image.new("RGB", (8, 8)), transparency=(1000, 2000, 3000))],
    ],
)
def test_what_holds_no_images_is_one_line_and_leaves_nothing(tmp_path: Path, data: Any) -> None:
    with pytest.raises(UserError) as error:
        vitgan.train(tiny_run("unused"), tmp_path, data=data)
    assert "\n" not in str(error.value)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


EACH = list(range(COUNT))
ALTERNATING = [1, 0] * (COUNT // 2)


@pytest.mark.parametrize(
    ("labels", "numbers", "classes"),
    [
        (np.arange(COUNT), EACH, None),  # a class for each image
        ([5000, 0] * (COUNT // 2), [5000, 0] * (COUNT // 2), None),
        (np.arange(COUNT) + 1, EACH, [str(number + 1) for number in EACH]),
        (np.eye(COUNT), EACH, None),
        (["dog", "cat"] * (COUNT // 2), ALTERNATING, ["cat", "dog"]),
        (torch.tensor([True, False] * (COUNT // 2)), ALTERNATING, ["False", "True"]),
    ],
)
def test_labels_of_any_kind_are_classes(labels: Any, numbers: list[int], classes: list[str] | None) -> None:
    source = PythonImages((pixels(), labels))
    assert source.labels is not None
    assert source.labels.tolist() == numbers
    assert source.label_names == classes


def test_transparent_images_are_put_on_white_as_from_files(tmp_path: Path) -> None:
    image = Image.fromarray(pixels()[0]).convert("RGBA")
    image.putalpha(100)
    image.save(tmp_path / "a.png")
    (tmp_path / "photos").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "photos" / "a.png")
    expected = prepare(ImageFolder(tmp_path / "photos"), tmp_path / "files", resolution=8, workers=0)
    assert np.array_equal(prepare(PythonImages([image]), tmp_path / "objects", resolution=8).images, expected.images)


def test_pillow_images_are_turned_as_from_files(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels()[0]).save(tmp_path / "photos" / "a.png", exif=exif)
    opened = [Image.open(tmp_path / "photos" / "a.png")]
    from_file, from_object = (
        vitgan_store(with_images(tiny_run("unused"), data, tmp_path / "data")) for data in (tmp_path / "photos", opened)
    )
    assert np.array_equal(from_file.images, from_object.images)
    assert not np.array_equal(from_file.images[0].transpose(1, 2, 0), pixels()[0])


def test_a_configurations_data_may_be_images_which_are_prepared_once(tmp_path: Path) -> None:
    images = write_images(tmp_path / "photos")
    model = tiny_run("unused").model.model_copy(update={"conditional": True})  # the images have no labels
    config = tiny_run(str(images), total_kimg=0.008).model_copy(update={"model": model})
    notices: list[str] = []
    prepared: list[tuple[int, int]] = []
    hooks = vitgan.Hooks(on_notice=notices.append, on_prepare=lambda done, total: prepared.append((done, total)))
    runs = [vitgan.train(config, tmp_path / "runs", hooks=hooks) for _ in range(2)]
    assert [config_of_run(run).model.conditional for run in runs] == [False, False]
    assert config_of_run(runs[0]).data == config_of_run(runs[1]).data
    assert prepared[-1] == (COUNT, COUNT)
    assert len([done for done, _ in prepared if done == COUNT]) == 1
    assert len(notices) == 2 + 3  # of the second run nothing is prepared


def test_images_that_are_left_out_are_told_of(tmp_path: Path) -> None:
    images, told = write_images(tmp_path / "photos"), list[str]()
    for number in range(30):
        (images / f"phone{number}.heic").write_bytes(b"not decoded")
    for _ in range(2):  # also where the store is there already
        with_images(tiny_run("unused"), images, tmp_path / "data", told.append)
        assert " 30," in told[-1]
        assert "phone0.heic" in told[-1]


def test_what_runs_leave_in_the_folder_of_images_is_not_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_images(tmp_path / "photos"))
    first, second = (vitgan.train(tiny_run(".", total_kimg=0.004)) for _ in range(2))
    assert len(list(first.glob("samples/*.png"))) == 2
    assert config_of_run(second).data == config_of_run(first).data
    assert len(data_of_run(second)) == COUNT
    with pytest.raises(UserError):
        vitgan.train(tiny_run(str(first)))


def test_a_folder_is_meant_before_the_bundled_images_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bundled = vitgan_store(with_images(tiny_run("unused"), "fashion-mnist", Path("data")))
    assert len(bundled) == 10_000
    write_images(Path("fashion-mnist"))
    assert holds_images_to_prepare("fashion-mnist")
    prepared = vitgan_store(with_images(tiny_run("unused"), "fashion-mnist", Path("data")))
    prepared.path.rename("store")
    Path("fashion-mnist").rename("photos")
    Path("store").rename("fashion-mnist")
    store = vitgan_store(with_images(tiny_run("unused"), "fashion-mnist", Path("data")))
    assert len(prepared) == len(store) == COUNT
