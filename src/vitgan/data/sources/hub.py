"""Data sets on the Hugging Face Hub, fetched into the Hub's own cache: "hf://owner/name", optionally "@revision"."""

from pathlib import Path

from vitgan.errors import UserError
from vitgan.files.hub import fetch_repository

SCHEME = "hf://"
CONVERTED = "refs/convert/parquet"
"""The Hub's own revision that has every data set as Parquet."""


def fetch_data_set(address: str, endpoint: str | None = None) -> Path:
    """The folder of a data set's Parquet files; where its authors have none, those that the Hub made.

    Args:
        address: "hf://owner/name" or "hf://owner/name@revision".
        endpoint: Address of the Hub; default the public one, or `HF_ENDPOINT`.

    Raises:
        UserError: If there is no such data set, it has no Parquet files, or the Hub cannot be asked.
    """
    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    for wanted in (revision or None, *([] if revision else [CONVERTED])):
        folder = fetch_repository(
            repository, ["*.parquet"], "data", revision=wanted, repo_type="dataset", endpoint=endpoint
        )
        if next(folder.rglob("*.parquet"), None) is not None:
            return folder
    raise UserError(f"{address} has no Parquet files: fetch its files yourself, and pass their folder", "data")
