"""What the user's cache keeps of edits, and the Hub's of codebooks."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from reasonedit.codebook.disk.manifest import MANIFEST
from reasonedit.errors import UnavailableError
from reasonedit.util.cache import cache_folder

from .erased_edits import ErasedEdits


def forget_evidence(erased: ErasedEdits) -> int:
    """Take the evidence of edits' sentences out of the cache, wherever the same sentence was searched for.

    The sentences lie there as text. Where another edit has one of them, its evidence is searched for anew.

    Returns:
        How many searches were forgotten.

    Raises:
        UnavailableError: A file of the cache cannot be written.
    """
    count = 0
    for path in sorted((cache_folder() / "evidence").glob("*.sqlite")):
        try:
            count += _forget(path, erased.sentences)
        except (sqlite3.Error, ValueError, LookupError, TypeError) as error:
            raise UnavailableError(
                f"The cache '{path}', which may hold sentences of the edits, cannot be cleaned ({error}): delete this "
                "file, of which everything is made again where it is needed, and run the same again. No edit is "
                "erased yet."
            ) from error
    return count


def _forget(path: Path, sentences: frozenset[str]) -> int:
    with closing(sqlite3.connect(path, timeout=60)) as base:
        base.execute("pragma secure_delete = on")
        rows = base.execute("select asked, evidence from found")
        searches = [
            (asked,)
            for asked, evidence in rows
            if not sentences.isdisjoint(one["sentence"] for one in json.loads(evidence))
        ]
        if searches:
            with base:
                base.executemany("delete from found where asked = ?", searches)
            base.execute("vacuum")
    return len(searches)


def find_cached_replies() -> Path | None:
    """Where the cache keeps what unedited models answered: texts of their own, under checksums of what was asked."""
    folder = cache_folder() / "answers"
    return folder if any(folder.glob("*.sqlite")) else None


def find_same_codebook(codebook: Path, name: str) -> Iterator[Path]:
    """Folders that hold the same codebook: beside it, and in the cache of the Hub.

    Args:
        codebook: Its folder.
        name: The codebook's id, which a backup and a copy on the Hub share with it.
    """
    from huggingface_hub import constants

    hub = Path(constants.HF_HUB_CACHE).glob(f"models--*/snapshots/*/{MANIFEST}")
    for path in sorted([*codebook.parent.glob(f"*/{MANIFEST}"), *hub]):
        try:
            same = not path.parent.samefile(codebook) and json.loads(path.read_text(encoding="utf-8"))["id"] == name
        except (OSError, ValueError, LookupError, TypeError, RecursionError):
            continue
        if same:
            yield path.parent
