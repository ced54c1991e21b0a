"""Where things are kept that can be made again."""

from __future__ import annotations

import hashlib
import os
from functools import cache
from pathlib import Path
from types import ModuleType

from reasonedit.dependencies import code_of, versions_of


def cache_folder() -> Path:
    """``$REASONEDIT_CACHE``, else ``reasonedit`` in the user's cache."""
    named = os.environ.get("REASONEDIT_CACHE")
    if named:
        return _where(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reasonedit"


@cache
def _where(named: str) -> Path:
    """A folder where it was when it was first named: the process may change its working folder."""
    return Path(named).absolute()


def code_version(*packages: ModuleType) -> str:
    """What a kept thing depends on beside what it was made of: the code that asks the VLM, and the libraries under it.

    Args:
        packages: Packages or modules whose code, with what they import, it depends on beside :mod:`reasonedit.vlm`.
    """
    import reasonedit.vlm

    code = code_of([reasonedit.vlm, *packages])
    digest = hashlib.sha256(repr(sorted(code.items())).encode()).hexdigest()[:16]
    return ", ".join([digest, *(f"{n} {v}" for n, v in versions_of(("torch", "transformers")).items())])
