"""Reading: no file is trusted, whoever wrote it."""

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

from vitgan.errors import UserError
from vitgan.schema import first_problem

Model = TypeVar("Model", bound=BaseModel)

LARGEST_JSON_BYTES = 1 << 24
LARGEST_YAML_BYTES = 1 << 20


@contextmanager
def user_error(
    what: str, *kinds: type[Exception], advice: str = "", parameter: str | None = None, longest: int = 500
) -> Iterator[None]:
    """Raises an error of these kinds inside the block as a UserError, "WHAT: REASON: ADVICE"; UserErrors only if asked for.

    Args:
        what: What went wrong.
        kinds: Of errors.
        advice: What to do.
        parameter: What to change; a UserError that names one keeps its own.
        longest: Where the first two parts are cut.
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, UserError) and UserError not in kinds:
            raise
        reason = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        message = one_line(f"{what}: {reason}", longest) + (f": {advice}" if advice else "")
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
    """The content of a file that may be a stranger's.

    Raises:
        UserError: If it is missing, no regular file, larger than `largest` bytes, or unreadable.
    """
    with user_error(f"cannot read the {what} {path}", OSError):
        if regular_size(path) > largest:
            raise UserError(f"{path} is larger than {largest >> 20} MiB, which no {what} is")
        return path.read_bytes()


def read_json(path: Path, what: str) -> Any:
    """The value in a JSON file that may be a stranger's; its numbers are finite.

    Raises:
        UserError: If it cannot be read, is no JSON, or is larger than 16 MiB.
    """
    data = read_bytes(path, what)
    with user_error(f"cannot read the {what} {path} as JSON", ValueError, RecursionError):
        value = json.loads(data.decode(), parse_constant=_finite, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could be neither shown nor written
        return value


def read_tree(path: Path, what: str) -> Any:
    """The value in a file .json, .yaml or .yml.

    Raises:
        UserError: If it has another ending, cannot be read, is larger than 16 MiB (YAML: 1 MiB), says something twice, or
            has aliases, of which a few lines can make gigabytes.
    """
    if path.suffix.lower() == ".json":
        return read_json(path, what)
    if path.suffix.lower() not in (".yaml", ".yml"):
        raise UserError(one_line(f"{path} is no {what}: its name must end in .json, .yaml or .yml"))
    data = read_bytes(path, what, LARGEST_YAML_BYTES)
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(data, yaml.SafeLoader)):
            raise ValueError("it has an alias (*): write the value itself")
        _refuse_repetition(yaml.compose(data, yaml.SafeLoader))
        return yaml.safe_load(data)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(one_line(f"cannot read the {what} {path} as YAML: {error}")) from error


def _refuse_repetition(node: yaml.Node | None) -> None:
    """YAML would take the last of several equal keys."""
    if not isinstance(node, yaml.MappingNode):
        return
    keys = [str(key.value) for key, _ in node.value]
    for key, (_, value) in zip(keys, node.value, strict=True):
        if keys.count(key) > 1:
            raise ValueError(f"{key} is there twice")
        _refuse_repetition(value)


def read_model(path: Path, model: type[Model], what: str, keys: tuple[str, ...] = ()) -> Model:
    """Reads a JSON file (or the part of it under `keys`) and validates it. The file may be a stranger's.

    Raises:
        UserError: If the file is missing, cannot be read as JSON, or does not fit `model`.
    """
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
        raise UserError(one_line(f"{path} does not describe a {what}: {place} {reason}")) from error
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise UserError(one_line(f"{path} does not describe a {what}: {error!r}")) from error


def read_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A NumPy file of known content, mapped read-only; nothing is allocated before its header and size are right.

    Raises:
        UserError: If it is missing, no NumPy file, or holds anything else.
    """
    dtype = np.dtype(dtype)
    # NumPy parses the header as Python, and a damaged one raises anything.
    with user_error(f"cannot read {path}", Exception, longest=200), warnings.catch_warnings():
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


def escaped(text: str) -> str:
    """The text without control characters, which a stranger's file may have put there for the terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)


def one_line(text: str, longest: int = 500) -> str:
    """The text for a message: escaped, and cut."""
    shown = escaped(text)
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
