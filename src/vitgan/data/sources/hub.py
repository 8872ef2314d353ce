"""Data sets on the Hugging Face Hub, fetched into the Hub's own cache: "hf://owner/name", optionally "@revision"."""

from pathlib import Path

from vitgan.errors import UserError, one_line

SCHEME = "hf://"
FILES = ("*.parquet",)
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
    from huggingface_hub import snapshot_download

    repository, _, revision = address.removeprefix(SCHEME).partition("@")
    for wanted in (revision or None, *([] if revision else [CONVERTED])):
        try:
            folder = snapshot_download(
                repository,
                repo_type="dataset",
                revision=wanted,
                endpoint=endpoint,
                allow_patterns=[*FILES],
                library_name="vitgan",
            )
        except Exception as error:  # whatever a network does to the Hub's client
            reason = one_line(f"{type(error).__name__}: {error}".split("\n")[0], 200)
            advice = "check the name, log in with `hf auth login` if it is private or gated, or try again"
            raise UserError(f"cannot fetch {address} from the Hub: {reason}; {advice}", "data") from error
        if next(Path(folder).rglob("*.parquet"), None) is not None:
            return Path(folder)
    raise UserError(f"{address} has no Parquet files: fetch its files yourself, and pass their folder", "data")
