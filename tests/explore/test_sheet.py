from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from refusals import refused
from vitgan.explore.sheet import CAPTION, SMALLEST_TEXT, TEXT, captioned, fitting, picture, save_animation, sheet


def test_a_sheet_holds_each_image_in_its_place() -> None:
    red = torch.tensor([1.0, -1.0, -1.0])[:, None, None].expand(3, 4, 4)
    rows = [[red, -red], [-red, red]]
    plain = sheet(rows, side=8)
    assert plain.size == (4 + 2 * 12, 4 + 2 * 12)
    assert plain.getpixel((5, 5)) == (255, 0, 0)
    assert plain.getpixel((17, 5)) == (0, 255, 255)
    titled = sheet(rows, ["a", "b"], ["first", "second"], side=8)
    assert titled.width > plain.width
    assert (
        titled.crop((titled.width - plain.width, titled.height - plain.height, *titled.size)).tobytes()
        == plain.tobytes()
    )


def test_grey_becomes_rgb_and_small_becomes_large() -> None:
    shown = picture(torch.zeros(1, 8, 8), side=32)
    assert (shown.mode, shown.size) == ("RGB", (32, 32))


def frames(count: int = 3) -> list[Image.Image]:
    return [Image.new("RGB", (33, 32), (80 * index, 0, 255 - 80 * index)) for index in range(count)]


@pytest.mark.parametrize("ending", [".gif", ".webp"])
def test_animations_are_whole_and_endless(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "new" / f"a{ending}"
    save_animation(frames(), path, frames_per_second=10)
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 3
        assert animation.info["loop"] == 0
        animation.seek(2)
        animation.load()
        assert animation.info["duration"] == 100
        assert np.abs(np.asarray(animation.convert("RGB"))[10, 10].astype(int) - (160, 0, 95)).max() < 12
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_mp4(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    save_animation(frames(5), tmp_path / "a.mp4", frames_per_second=5)
    with av.open(str(tmp_path / "a.mp4")) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [d.shape for d in decoded] == [(32, 32, 3)] * 5  # even sides
    assert np.abs(decoded[2][10, 10].astype(int) - (160, 0, 95)).max() < 25


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with refused(tmp_path / "a.avi", ".gif"):
        save_animation(frames(), tmp_path / "a.avi")


def test_a_caption_is_below() -> None:
    image = Image.new("RGB", (60, 20), "red")
    shown = captioned(image, "20 kimg")
    assert shown.crop((0, 0, 60, 20)).tobytes() == image.tobytes()
    below = np.asarray(shown.crop((0, 20, 60, shown.height)))
    assert below.min() < 100 < below.max()


@pytest.mark.parametrize("width", [28, 32, 64])
@pytest.mark.parametrize("text", ["1", "12345", "1234567890", str(2**63 - 1)])
def test_a_caption_is_whole(width: int, text: str) -> None:
    """None of its ink is outside."""
    shown = captioned(Image.new("RGB", (width, 20), "red"), text)
    assert shown.size == (width, 20 + CAPTION)
    size, lines = fitting(text, width)
    assert "".join(lines) == text
    assert size >= SMALLEST_TEXT
    assert ink(shown.crop((0, 20, *shown.size))) == sum(ink(alone(line, size)) for line in lines)


def alone(text: str, size: int) -> Image.Image:
    """A line of text with room all around."""
    wide = Image.new("RGB", (300, 60), "white")
    ImageDraw.Draw(wide).text((20, 20), text, "black", ImageFont.load_default(size))
    return wide


def ink(image: Image.Image) -> int:
    return int((255 - np.asarray(image).astype(int)).sum())


def test_a_caption_with_room_is_one_line_of_the_usual_size() -> None:
    assert fitting("12345", 64) == (TEXT, ["12345"])
    assert fitting("1,000 images", 200) == (TEXT, ["1,000 images"])
    assert fitting("1,000,000 images", 64)[1] == ["1,000,000", "images"]


@pytest.mark.parametrize("ending", [".gif", ".webp"])
@pytest.mark.parametrize("rate", [0.5, 7, 15, 24, 30, 48, 50])
def test_animations_keep_their_rate(tmp_path: Path, ending: str, rate: float) -> None:
    path = tmp_path / f"a{ending}"
    shown = [Image.new("RGB", (8, 8), (5 * index, 255 - 5 * index, 0)) for index in range(48)]
    save_animation(shown, path, rate)
    times = []
    with Image.open(path) as animation:
        assert getattr(animation, "n_frames", 1) == 48
        for index in range(48):
            animation.seek(index)
            animation.load()
            times.append(animation.info["duration"])
    unit = 10 if ending == ".gif" else 1
    assert abs(sum(times) - 48_000 / rate) <= unit / 2
    assert max(times) - min(times) <= unit
    assert min(times) >= 2 * unit


@pytest.mark.parametrize("rate", [50.1, 100])
def test_a_rate_that_gif_has_not(tmp_path: Path, rate: float) -> None:
    with refused(tmp_path / "a.gif", parameter="frames_per_second"):
        save_animation(frames(), tmp_path / "a.gif", rate)
    assert list(tmp_path.iterdir()) == []
    save_animation(frames(), tmp_path / "a.webp", rate)


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf")])
def test_no_rate(tmp_path: Path, rate: float) -> None:
    with refused(parameter="frames_per_second"):
        save_animation(frames(), tmp_path / "a.webp", rate)


def test_an_animation_of_one_frame(tmp_path: Path) -> None:
    for ending in (".gif", ".webp"):
        save_animation(frames(1), tmp_path / f"a{ending}", 10)
        with Image.open(tmp_path / f"a{ending}") as animation:
            assert getattr(animation, "n_frames", 1) == 1
