"""Where things are kept that can be made again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$REASONEDIT_CACHE``, else ``reasonedit`` in the user's cache."""
    named = os.environ.get("REASONEDIT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reasonedit"
