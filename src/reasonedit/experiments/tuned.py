"""What tuning chose for each editor."""

from __future__ import annotations

import json
from pathlib import Path

from reasonedit.errors import InputError

from .search_spaces import SPACES, Values

TUNED_FILE = Path(__file__).with_name("tuned.json")
"""What the rows "(tuned)" are made of. It comes with the package; without it there are no such rows."""


def read_tuned(path: Path) -> dict[str, Values]:
    """The values that were chosen, by editor; none where there is no file.

    Raises:
        InputError: The file is damaged, or names values that are not among the tries of today: tune again.
    """
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        chosen: dict[str, Values] = {name: dict(editor["values"]) for name, editor in content["editors"].items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"'{path}' does not hold what tuning chose ({error}): run reasonedit experiment tune."
        ) from error
    for name, values in chosen.items():
        if name not in SPACES or values not in SPACES[name].tries:
            raise InputError(f"'{path}' has values of '{name}' that are not tried: run reasonedit experiment tune.")
    return chosen


def models_tuned_on(path: Path) -> list[str]:
    """The models on which the values were chosen, as far as the file of :func:`read_tuned` names them."""
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [str(model["name"]) for model in content.get("models", ())]
