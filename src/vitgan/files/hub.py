"""Files of a repository on the Hugging Face Hub."""

from collections.abc import Sequence
from pathlib import Path

from vitgan.errors import UserError, one_line


def fetch_repository(name: str, files: Sequence[str], parameter: str | None = None, **where: str | None) -> Path:
    """The folder in the Hub's own cache with these files of a repository; without a network, what is there already.

    Args:
        name: "user/name".
        files: Patterns of the files' names.
        parameter: What named the repository, for errors.
        where: `revision`, `repo_type` and `endpoint` of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: If the Hub does not give it.
    """
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=[*files], library_name="vitgan", **where))  # pyright: ignore
    except Exception as error:  # whatever a network or a full disk does to the Hub's client
        match error:
            case errors.GatedRepoError():
                reason = "its authors give it on request: ask for it there, then log in with `hf auth login`"
            case errors.RevisionNotFoundError():
                reason = "it has no such revision: check it"
            case errors.RepositoryNotFoundError() | errors.HFValidationError():
                reason = "it has none of that name that you may read: check it, or log in with `hf auth login`"
            case errors.LocalEntryNotFoundError():
                reason = "it cannot be reached, and the cache has no copy: check the network, and HF_HUB_OFFLINE"
            case _:
                reason = one_line(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)
        wanted = "@".join(filter(None, (name, where.get("revision"))))
        raise UserError(f"cannot fetch {wanted} from the Hub: {reason}", parameter) from error
