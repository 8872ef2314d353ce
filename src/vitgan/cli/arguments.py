"""What values options take: each is checked before any work is done.

Those that several commands have carry their help, so that no docstring repeats it.
"""

import inspect
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from pydantic import AfterValidator, Field
from tyro.constructors import PrimitiveConstructorSpec

from vitgan.devices import check_device_name
from vitgan.errors import UserError
from vitgan.files import check_file, user_error
from vitgan.files.pictures import check_animation, check_picture
from vitgan.pretrained.names import find_model

if TYPE_CHECKING:
    from vitgan.models.generator import Generator

Model = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(
        metavar="MODEL",
        help="A run, checkpoint or model folder, a bundled model's name, or a Hub repository user/name.",
    ),
]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Batch = Annotated[int, Field(ge=1, le=4096)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
MOST_SEEDS = 1_000_000


def read_seeds(words: list[str]) -> tuple[int, ...]:
    """The seeds of "1,5,17-20" or of several such words; raises a ValueError if they are none."""
    seeds: list[int] = []
    for part in ",".join(words).split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f"{part!r} is neither a whole number nor two with a hyphen between them")
        following = range(int(first), int(last or first) + 1)
        if not following or following[-1] >= 2**63 or len(seeds) + len(following) > MOST_SEEDS:
            raise ValueError(f"{part} must rise, stay below 2^63, and be at most {MOST_SEEDS:,} seeds")
        seeds += following
    return tuple(seeds)


def read_points(words: list[str]) -> tuple[int | Path, ...]:
    """Seeds as `read_seeds` takes them, and files of styles (.safetensors); raises a ValueError if a word is neither."""
    points: list[int | Path] = []
    for word in words:
        points += [Path(word)] if word.endswith(".safetensors") else read_seeds([word])
    return tuple(points)


def read_point(words: list[str]) -> int | Path:
    """One seed, or one file of styles; raises a ValueError if it is none, or several."""
    points = read_points(words)
    if len(points) != 1:
        raise ValueError(f"{words[0]!r} names {len(points)} images, and one is shown")
    return points[0]


def _words(metavar: str, read: Callable[[list[str]], Any], count: int | Literal["*"] = "*") -> PrimitiveConstructorSpec:
    return PrimitiveConstructorSpec(
        nargs=count,
        metavar=metavar,
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple | int | Path),
        str_from_instance=lambda value: [str(one) for one in (value if isinstance(value, tuple) else (value,))],
    )


Seeds = Annotated[tuple[int, ...], _words("1,5,17-20", read_seeds)]
Points = Annotated[tuple[int | Path, ...], _words("1,5,17-20|FILE", read_points)]
"""Images by their seeds, or by the styles that `vitgan explore invert --styles-out FILE` found."""
Point = Annotated[int | Path, _words("SEED|FILE", read_point, count=1)]
Index = Annotated[int, Field(ge=0, lt=2**31)]
Label = Annotated[
    str | None,
    tyro.conf.arg(help="Class of a conditional model, by name or index; by default each seed has one of its own."),
]
Psi = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]
Truncation = Annotated[
    Psi, tyro.conf.arg(help="psi of the truncation trick: 1 is the plain model, less is more typical.")
]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Frames = Annotated[int, Field(ge=1, le=10_000)]
FramesPerSecond = Annotated[float, Field(ge=0.1, le=100), tyro.conf.arg(help="Frames a second of the animation.")]
Size = Annotated[int, Field(ge=8, le=4096), tyro.conf.arg(help="About how many screen pixels a frame is wide.")]
Device = Annotated[
    str, AfterValidator(check_device_name), tyro.conf.arg(help="Where to compute: auto, cpu, cuda, mps.")
]


class Usual(type(Path())):  # pyright: ignore[reportUntypedBaseClass]
    """The file or folder that is written where none is named; nobody asked for it, so it replaces nothing."""


def check_usual(path: Path, parameter: str = "out") -> Path:
    """Refuses such a file that is there already, or that cannot be made."""
    if path.exists():
        raise UserError(f"{path} is there already: ask for it by name to replace it, or for another name", parameter)
    return check_file(path)


def check_usual_folder(path: Path, parameter: str = "out") -> Path:
    """Refuses such a folder that holds something already."""
    with user_error(f"cannot read {path}", OSError, advice="choose another folder", parameter=parameter):
        if isinstance(path, Usual) and path.is_dir() and any(path.iterdir()):
            raise UserError(f"{path} holds files: ask for it by name to replace it, or for another folder", parameter)
    return path


def _output(check: Callable[[Path], object]) -> AfterValidator:
    def checked(path: Path) -> Path:
        check_usual(path) if isinstance(path, Usual) else check(path)
        return path

    return AfterValidator(checked)


OutputFile = Annotated[Path, _output(check_file)]
OnnxFile = Annotated[Path, _output(partial(check_file, ending=".onnx"))]
NpzFile = Annotated[Path, _output(partial(check_file, ending=".npz"))]
TensorFile = Annotated[Path, _output(partial(check_file, ending=".safetensors"))]
PictureFile = Annotated[Path, _output(check_picture)]
AnimationFile = Annotated[Path, _output(check_animation)]
"""A still .png too."""
OutputFolder = Annotated[Path, AfterValidator(check_usual_folder)]
"""What it holds is checked by the command, which knows what it may replace (`vitgan.files.folders`)."""


def check_different(*read: Path | None, **written: Path | None) -> None:
    """Refuses outputs, by the options' names, that are a file or folder that is read, or each other.

    Args:
        read: Inputs.
        written: Outputs.

    Raises:
        UserError: If two are the same, also by a link.
    """
    # `resolve` raises at links in a circle.
    inputs = {os.path.realpath(path) for path in read if path is not None}
    outputs: dict[str, str] = {}
    for option, path in written.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in inputs:
            raise UserError(f"{option} is {path}, which this command reads: choose another", option)
        other = outputs.setdefault(place, option)
        if other != option:
            raise UserError(f"{option} and {other} are both {path}: choose another for one of them", option)


def check_useless(command: Callable[..., None], where: str, **values: object) -> None:
    """Refuses values of a command's options that are not the default, where they do nothing ("in a still picture")."""
    for name, value in values.items():
        if value != inspect.signature(command).parameters[name].default:
            raise UserError(f"{name} does nothing {where}: leave it out", name)


def open_model(name: str, device: str = "cpu") -> "Generator":
    """`vitgan.load`, which is not imported, and torch with it, before there is such a model: it takes seconds."""
    found = find_model(name)
    from vitgan.pretrained.generators import load

    return load(found, device)
