"""Codebooks on the Hugging Face Hub."""

from __future__ import annotations

import glob
from pathlib import Path

from reasonedit.errors import InputError, UnavailableError
from reasonedit.util.hub import hub_errors

from .card import write_card
from .disk.layout import KEYS, PICTURES
from .disk.manifest import MANIFEST
from .disk.store import Store
from .memory import EditMemory

_FILES = [MANIFEST, "journal*.jsonl", "*.safetensors", f"{KEYS}/*.safetensors", f"{PICTURES}/*.png"]


def push_to_hub(memory: EditMemory, repo_id: str, *, private: bool, message: str, licence: str = "") -> str:
    """Upload a codebook to the Hugging Face Hub with the pictures of its edits and a card; no other file of its folder.

    Args:
        memory: The codebook.
        repo_id: Name of the repository, which is created where it does not exist.
        private: Whether a new repository is private.
        message: The message of the commit.
        licence: The licence that the card states, by its name on the Hub, such as ``cc-by-4.0``.

    Returns:
        The address of the repository.

    Raises:
        InputError: The codebook is in no folder yet.
        UnavailableError: It cannot be uploaded.
    """
    store = memory.store
    if store is None:
        raise InputError("The codebook is only in memory: save it into a folder first.")
    from huggingface_hub import HfApi

    api = HfApi()
    try:
        with store.writing():  # nobody changes it during the upload
            memory.refresh()  # what others have erased is not to be told
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            undone = [event.edit for event in memory.events if event.edit and event.edit.id not in memory.edits]
            card = write_card(store.manifest, memory.edits, undone, repo_id, licence)
            api.upload_file(
                path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=repo_id, commit_message=message
            )
            api.upload_folder(
                repo_id=repo_id,
                folder_path=store.folder,
                allow_patterns=_FILES,
                ignore_patterns=_other_files(store),
                delete_patterns=_FILES[1:],
                commit_message=message,
            )
    except hub_errors() as error:
        raise UnavailableError(
            f"The codebook cannot be uploaded to '{repo_id}' ({_first_line(error)}): check the name and the "
            "connection, and that you are logged in ('hf auth login')."
        ) from error
    return str(address)


def _other_files(store: Store) -> list[str]:
    """Patterns of what lies in a codebook's folder and does not belong to it: left over, or somebody else's."""
    own = store.files()
    names = (path.relative_to(store.folder).as_posix() for path in store.folder.rglob("*") if path.is_file())
    return [glob.escape(name) for name in names if name not in own]


def fetch_from_hub(repo_id: str, revision: str | None = None) -> Path:
    """Download a codebook from the Hub into the Hub's cache.

    Args:
        repo_id: Name of the repository.
        revision: Branch, tag or commit.

    Returns:
        Its folder there, which must not be changed.

    Raises:
        UnavailableError: It cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=_FILES))
    except hub_errors() as error:
        raise UnavailableError(
            f"The codebook '{repo_id}' cannot be fetched from the Hub ({_first_line(error)}): check its name "
            "and the connection; one in a folder is loaded by load(folder)."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
