"""What lies on a disk: files and folders that are never half written, and never trusted when they are read."""

from vitgan.files.reading import (
    read_bytes,
    read_json,
    read_model,
    read_tree,
    regular_size,
    sha256,
    user_error,
)
from vitgan.files.writing import (
    atomic_path,
    check_file,
    check_writable,
    lock_file,
    sync_folder,
    whole_file,
    write_bytes,
    write_json,
)

__all__ = [
    "atomic_path",
    "check_file",
    "check_writable",
    "lock_file",
    "read_bytes",
    "read_json",
    "read_model",
    "read_tree",
    "regular_size",
    "sha256",
    "sync_folder",
    "user_error",
    "whole_file",
    "write_bytes",
    "write_json",
]
