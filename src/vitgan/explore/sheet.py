"""Pictures for people: grids with captions, and animations."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from PIL import Image, ImageDraw, ImageFont

from vitgan.errors import UserError
from vitgan.files import whole_file
from vitgan.files.pictures import check_animation, check_picture_size, check_rate, image_grid, save_image

if TYPE_CHECKING:  # not imported to check a command's arguments
    from torch import Tensor

CELL, GAP, TEXT = 96, 4, 13
SMALLEST_TEXT = 7
"""Smaller digits are no longer told apart."""
CAPTION = TEXT + 2 * GAP
"""Height of a line of text below a picture."""


def picture(image: "Tensor", side: int = CELL) -> Image.Image:
    """(C, H, W) in [-1, 1] as RGB, pixels repeated until it is about `side` wide."""
    return image_grid(image.unsqueeze(0), enlarge=max(1, round(side / image.shape[2]))).convert("RGB")


def sheet(
    rows: "Iterable[Iterable[Tensor]]",
    column_titles: Sequence[str] = (),
    row_titles: Sequence[str] = (),
    side: int = CELL,
) -> Image.Image:
    """Images in rows and columns on white, with titles above and at the left.

    Args:
        rows: Images (C, H, W) in [-1, 1]; they are brought to the same side.
        column_titles: One per column, or none.
        row_titles: One per row, or none.
        side: About how many screen pixels an image takes; whole enlargements only.
    """
    pictures = [[picture(image, side) for image in row] for row in rows]
    width, height = pictures[0][0].size
    font = ImageFont.load_default(TEXT)
    left = max((int(font.getlength(t)) for t in row_titles), default=0) + (2 * GAP if row_titles else 0)
    top = TEXT + 2 * GAP if column_titles else 0
    columns = max(map(len, pictures))
    size = (left + columns * (width + GAP) + GAP, top + len(pictures) * (height + GAP) + GAP)
    check_picture_size(*size)
    canvas = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(canvas)
    for column, title in enumerate(column_titles):
        x = left + GAP + column * (width + GAP) + width / 2
        draw.text((x, GAP + TEXT / 2), title, "black", font, anchor="mm")
    for index, row in enumerate(pictures):
        y = top + GAP + index * (height + GAP)
        if row_titles:
            draw.text((GAP, y + height / 2), row_titles[index], "black", font, anchor="lm")
        for column, cell in enumerate(row):
            canvas.paste(cell, (left + GAP + column * (width + GAP), y))
    return canvas


def save_sheet(path: Path, rows: "Iterable[Iterable[Tensor]]", *titles: Sequence[str], side: int = CELL) -> None:
    """Writes a `sheet` as a picture.

    Raises:
        UserError: If it is too large, or cannot be written.
    """
    save_image(sheet(rows, *titles, side=side), path)


def captioned(image: Image.Image, text: str) -> Image.Image:
    """The picture with a line of text beneath; smaller, and on several lines, where it would not fit."""
    canvas = Image.new("RGB", (image.width, image.height + CAPTION), "white")
    canvas.paste(image.convert("RGB"), (0, 0))
    size, lines = fitting(text, image.width)
    font, draw = ImageFont.load_default(size), ImageDraw.Draw(canvas)
    left = min(GAP, int(image.width - max(map(font.getlength, lines))) // 2)
    for line, text in enumerate(lines):
        draw.text((max(0, left), image.height + (CAPTION - len(lines) * size) // 2 + line * size), text, "black", font)
    return canvas


def fitting(text: str, width: int) -> tuple[int, list[str]]:
    """The largest size, of those that can be read, in which the text fits below a picture, and its lines; else the smallest.

    Args:
        text: Not empty.
        width: The picture's.
    """
    size, lines = TEXT, [text]
    for size in range(TEXT, SMALLEST_TEXT - 1, -1):
        font = ImageFont.load_default(size)
        lines = wrap(text, max(1, int(len(text) * width / font.getlength(text))))
        if len(lines) * size <= CAPTION and all(font.getlength(line) <= width for line in lines):
            break
    return size, lines


def save_animation(frames: Iterable[Image.Image], path: Path, frames_per_second: float = 30) -> None:
    """Writes GIF, WebP or MP4 (H.264), endless where the format can say so, under a temporary name and renames it.

    Raises:
        UserError: If the ending is another, the file cannot be written or have that rate, or MP4's package is absent.
    """
    check_animation(path)
    check_rate(path, frames_per_second)
    pictures = [frame.convert("RGB") for frame in frames]
    if not pictures:
        raise UserError("an animation needs at least one frame")
    with whole_file(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _write_mp4(pictures, temporary, frames_per_second)
        else:
            options: dict[str, Any] = {"quality": 90} if path.suffix.lower() == ".webp" else {"optimize": True}
            pictures[0].save(
                temporary,
                save_all=True,
                append_images=pictures[1:],
                duration=durations(len(pictures), frames_per_second, unit=10 if path.suffix.lower() == ".gif" else 1),
                loop=0,
                **options,
            )


def durations(frames: int, frames_per_second: float, unit: int) -> list[int]:
    """Milliseconds of each frame, in whole `unit`s: every frame ends as near to its time as they let it."""
    ends = [round(1000 * frame / (frames_per_second * unit)) for frame in range(frames + 1)]
    return [(end - start) * unit for start, end in pairwise(ends)]


def _write_mp4(pictures: list[Image.Image], path: Path, frames_per_second: float) -> None:
    import av

    # H.264 in the colour format that players expect has even sides.
    width, height = (side - side % 2 for side in pictures[0].size)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(frames_per_second).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.options = {"crf": "16"}
        for image in pictures:
            container.mux(stream.encode(av.VideoFrame.from_image(image.crop((0, 0, width, height)))))
        container.mux(stream.encode())
