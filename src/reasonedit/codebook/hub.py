"""Codebooks on the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path

from reasonedit.errors import InputError, UnavailableError

from .disk.layout import KEYS, PICTURES
from .disk.manifest import MANIFEST
from .disk.store import Store

_JOURNALS = "journal*.jsonl"
_FILES = [MANIFEST, _JOURNALS, "*.safetensors", f"{KEYS}/*.safetensors", f"{PICTURES}/*.png"]
_CARD = """---
library_name: reasonedit
tags:
- reasonedit
- model-editing
---

# A codebook of ReasonEdit

Corrections of `{model}`, with the reasoning behind them. Use it with

```python
from reasonedit import ReasonEditor

editor = ReasonEditor.from_hub("{repo}")
editor.ask("photo.jpg", "What is it?")
```
"""


def push_to_hub(store: Store | None, repo_id: str, *, private: bool, message: str) -> str:
    """Upload a codebook to the Hugging Face Hub with the pictures of its edits, and no other file of its folder.

    Args:
        store: The codebook's folder.
        repo_id: Name of the repository, which is created where it does not exist.
        private: Whether a new repository is private.
        message: The message of the commit.

    Returns:
        The address of the repository.

    Raises:
        InputError: The codebook is in no folder yet.
        UnavailableError: It cannot be uploaded.
    """
    if store is None:
        raise InputError("The codebook is only in memory: save it into a folder first.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi()
    try:
        with store.writing():  # nobody changes it during the upload
            address = api.create_repo(repo_id, private=private, exist_ok=True)
            card = _CARD.format(model=store.manifest.config.get("model", ""), repo=repo_id).encode()
            api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo_id, commit_message=message)
            api.upload_folder(
                repo_id=repo_id,
                folder_path=store.folder,
                allow_patterns=[store.manifest.journal_file, *(name for name in _FILES if name != _JOURNALS)],
                delete_patterns=_FILES[1:],
                commit_message=message,
            )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UnavailableError(
            f"The codebook cannot be uploaded to '{repo_id}' ({str(error).splitlines()[0]}): check the name, and that "
            "you are logged in ('hf auth login')."
        ) from error
    return str(address)


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
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=_FILES))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise UnavailableError(
            f"The codebook '{repo_id}' cannot be fetched from the Hub ({str(error).splitlines()[0]}): check its name "
            "and the connection; one in a folder is loaded by load(folder)."
        ) from error
