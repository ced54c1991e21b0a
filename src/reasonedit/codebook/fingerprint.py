"""The fingerprint: what a codebook's keys were made with. Queries must be made with the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from reasonedit.errors import MismatchError
from reasonedit.former_names import current_fingerprint

KEYS_MADE = "keys_made"
"""Name, in a fingerprint, of the way in which keys are made from its other parts."""

_CHECKSUM = re.compile("[0-9a-f]{32}")


def check_fingerprint(stored: Mapping[str, Any], current: Mapping[str, Any], folder: object) -> None:
    """Refuse a codebook whose keys were made with another model or other settings.

    Args:
        stored: The codebook's fingerprint.
        current: The fingerprint of the model and the settings in use.
        folder: The codebook, for the message.

    Raises:
        MismatchError: They differ; the message says in what.
    """
    if stored and KEYS_MADE not in stored:
        raise MismatchError(
            f"The codebook in '{folder}' is of an earlier version, which did not note all that its keys depend on: "
            "'reasonedit codebook migrate' embeds its edits again, into another folder."
        )
    stored, current = current_fingerprint(stored), current_fingerprint(current)
    differing = [k for k in {**stored, **current} if stored.get(k) != current.get(k)]
    if differing:
        details = ", ".join(_difference(k, stored.get(k), current.get(k)) for k in sorted(differing))
        raise MismatchError(
            f"The codebook in '{folder}' was made with another model or setting ({details}). Use that one, or "
            "'reasonedit codebook migrate' to embed its edits again."
        )


def _difference(part: str, stored: object, now: object) -> str:
    """What differs, in words; the value of a checksum would tell nobody anything."""
    name = part.replace("_", " ")
    if all(isinstance(v, str) and _CHECKSUM.fullmatch(v) for v in (stored, now) if v is not None):
        return f"another {name}" if stored is not None and now is not None else f"the {name}"
    return f"{name}: stored {stored!r}, now {now!r}"
