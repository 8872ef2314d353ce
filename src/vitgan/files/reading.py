"""Reading: no file is trusted, whoever wrote it. One that is missing, damaged, too large or of another kind: UserError."""

import errno
import hashlib
import json
import math
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import BaseModel, ValidationError

from vitgan.errors import UserError, one_line
from vitgan.schema import first_problem

Model = TypeVar("Model", bound=BaseModel)

LARGEST_JSON_BYTES = 1 << 24
LARGEST_YAML_BYTES = 1 << 20


@contextmanager
def user_error(what: str, *kinds: type[Exception], advice: str = "", parameter: str | None = None) -> Iterator[None]:
    """Raises an error of these kinds inside the block as a UserError, "WHAT: REASON: ADVICE"; UserErrors only if asked for.

    Args:
        what: What went wrong.
        kinds: Of errors.
        advice: What to do.
        parameter: What to change; a UserError that names one keeps its own.
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, UserError) and UserError not in kinds:
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        line = f"{what}: {reason}"
        message = (line if isinstance(error, UserError) else one_line(line)) + (f": {advice}" if advice else "")
        raise UserError(message, getattr(error, "parameter", None) or parameter) from error


def regular_size(path: Path) -> int:
    """Size of a regular file in bytes. To open a FIFO or a device in its place could wait for ever, or do something.

    Raises:
        OSError: If there is no regular file at `path`.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file", str(path))
    return found.st_size


def stamp(path: Path) -> str:
    """Size and times of a file, which differ after any change of its content; "" if it is gone."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}"


def read_bytes(path: Path, what: str, largest: int = LARGEST_JSON_BYTES) -> bytes:
    """The content of a file that may be a stranger's."""
    with user_error(f"cannot read the {what} {path}", OSError):
        if regular_size(path) > largest:
            raise UserError(f"{path} is larger than {largest >> 20} MiB, which no {what} is")
        return path.read_bytes()


def read_json(path: Path, what: str) -> Any:
    """The value in a JSON file that may be a stranger's; its numbers are finite."""
    data = read_bytes(path, what)
    with user_error(f"cannot read the {what} {path} as JSON", ValueError, RecursionError):
        value = json.loads(
            data.decode(), parse_constant=_finite, parse_float=_finite, object_pairs_hook=without_repetition
        )
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither shown nor written
        return value


def read_tree(path: Path, what: str) -> Any:
    """The value in a file .json (of at most 16 MiB), .yaml or .yml (1 MiB)."""
    if path.suffix.lower() == ".json":
        return read_json(path, what)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(f"{path} is no {what}: its name must end in .json, .yaml or .yml")
    data = read_bytes(path, what, LARGEST_YAML_BYTES)
    with user_error(f"cannot read the {what} {path} as YAML", yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(data, _Loader)


class _Loader(yaml.SafeLoader):
    """Refuses what YAML allows: aliases, and a key that is there twice, of which it would take the last."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise ValueError("it has an alias (*): write the value itself")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [str(key.value) for key, _ in node.value]
        if twice := {key for key in keys if keys.count(key) > 1}:
            raise ValueError(f"{min(twice)} is there twice")
        return super().construct_mapping(node, deep)


def read_model(path: Path, model: type[Model], what: str, keys: tuple[str, ...] = ()) -> Model:
    """Reads a JSON file (or the part of it under `keys`) and validates it. The file may be a stranger's."""
    if not path.exists():
        raise UserError(f"{path.parent} is no {what}: it has no {path.name}")
    value = read_json(path, what)
    try:
        for key in keys:
            value = value[key]
        with user_error(str(path), UserError):  # of a configuration whose parts contradict each other
            return model.model_validate(value)
    except ValidationError as error:
        place, reason = first_problem(error)
        place = ".".join(filter(None, (*keys, place))) or "file"
        raise UserError(f"{path} does not describe a {what}: {place} {one_line(reason)}") from error
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(f"{path} does not describe a {what}: {one_line(repr(error))}") from error


def read_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A NumPy file of known content, mapped read-only; nothing is allocated before its header and size are right."""
    dtype = np.dtype(dtype)
    # NumPy parses the header as Python, and a damaged one raises anything.
    with user_error(f"cannot read {path}", Exception), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python's and NumPy's remarks on odd headers
        size = regular_size(path)
        array = np.lib.format.open_memmap(path, mode="r")
        if (array.shape, array.dtype) != (shape, dtype) or not array.flags.c_contiguous:
            order = "" if array.flags.c_contiguous else " in Fortran order"
            raise UserError(f"{path} holds {array.dtype} {array.shape}{order}, expected {dtype} {shape}")
        if size != array.offset + array.nbytes:
            raise UserError(f"{path} is damaged: it has {size:,} bytes, its header announces another number")
        return array


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is no finite number")
    return value


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A hook of `json.loads`: Python would take the last of several equal keys."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in keys if keys.count(key) > 1)} is there twice")
    return content


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
