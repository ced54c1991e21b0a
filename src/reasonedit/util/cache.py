"""The cache: a folder for what can be computed again."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path


def cache_folder() -> Path:
    """The folder ``$REASONEDIT_CACHE``, else ``reasonedit`` in the user's cache."""
    named = os.environ.get("REASONEDIT_CACHE")
    if named:
        return _first_place_of(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reasonedit"


@cache
def _first_place_of(named: str) -> Path:
    """The absolute path of a folder when it was first named: the process may change its working folder."""
    return Path(named).absolute()
