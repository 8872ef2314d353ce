"""Small files that must never be half written or half read."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vitgan.errors import UserError

Model = TypeVar("Model", bound=BaseModel)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON under a temporary name and renames it."""
    temporary = path.with_name(f".{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def read_model(path: Path, model: type[Model], what: str, keys: tuple[str, ...] = ()) -> Model:
    """Reads a JSON file (or the part of it under `keys`) and validates it.

    Raises:
        UserError: If the file is missing, is no JSON, or does not fit `model`.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        for key in keys:
            value = value[key]
        return model.model_validate(value)
    except FileNotFoundError as error:
        raise UserError(f"{path.parent} is no {what}: it has no {path.name}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(p) for p in (*keys, *first["loc"]))
        raise UserError(f"{path} does not describe a {what}: {place}: {first['msg']}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a {what}'s JSON: {error}") from error


def sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
