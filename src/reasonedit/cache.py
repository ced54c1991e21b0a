"""Where things are kept that can be made again."""

from __future__ import annotations

import hashlib
import os
from importlib import metadata
from pathlib import Path
from types import ModuleType


def cache_folder() -> Path:
    """``$REASONEDIT_CACHE``, else ``reasonedit`` in the user's cache."""
    named = os.environ.get("REASONEDIT_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "reasonedit"


def code_version(*packages: ModuleType) -> str:
    """What a kept thing depends on beside what it was made of: the code that asks the VLM, and the libraries under it.

    Args:
        packages: Packages whose code it depends on, beside :mod:`reasonedit.vlm`.
    """
    import reasonedit.vlm

    digest = hashlib.sha256()
    for package in (reasonedit.vlm, *packages):
        for path in sorted(Path(str(package.__file__)).parent.glob("*.py")):
            digest.update(path.read_bytes())
    return ", ".join([digest.hexdigest()[:16], *(f"{n} {metadata.version(n)}" for n in ("torch", "transformers"))])
