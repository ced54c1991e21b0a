"""The pictures that come with the package: two for each of some facts that no model can know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reasonedit.errors import NotFoundError

SAMPLES = Path(__file__).parent / "samples"
"""The pictures, and ``samples.json``: for each its name, a question about it, and what is true of it."""


def list_samples() -> list[dict[str, Any]]:
    """The samples in their order: for each its ``name``, ``question`` and ``fact``."""
    listed: list[dict[str, Any]] = json.loads((SAMPLES / "samples.json").read_text(encoding="utf-8"))
    return listed


def sample_picture(name: str) -> Path:
    """The file of a picture that comes with the package, to try things on.

    They are drawings as the embedded VLM knows them. A pair such as ``clinic-1`` and ``clinic-2`` shows one kind of
    thing in two pictures: correct the model on the one, and ask it about the other.

    Args:
        name: Its name, with or without ``.png``.

    Returns:
        The PNG file, which should be left as it is.

    Raises:
        NotFoundError: There is no picture of this name.
    """
    names = [sample["name"].removesuffix(".png") for sample in list_samples()]
    if name.removesuffix(".png") not in names:
        raise NotFoundError(f"There is no sample picture '{name}': choose from {', '.join(names)}.")
    return SAMPLES / f"{name.removesuffix('.png')}.png"
