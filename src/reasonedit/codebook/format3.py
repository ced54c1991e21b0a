"""Codebooks of format 3: the text of their edits. They hold no pictures, which must come from somewhere else.

A folder of that format holds ``codebook.json`` (the edits' text, the design, the VLM's name) and ``keys.safetensors``.
Only the text is read: nothing says how the keys were made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.errors import ConflictError, InputError, ReasonEditError
from reasonedit.images import load_image

from .disk.errors import UnreadableError
from .disk.files import read_content
from .disk.manifest import MANIFEST
from .drafts import Draft
from .memory import EditMemory
from .stored_edit import StoredEdit, picture_name

FORMAT = 3
_MAX_BYTES = 512 * 2**20
"""The text of some hundred thousand edits."""


@dataclass(frozen=True)
class Format3Codebook:
    """The text of a codebook of format 3.

    Attributes:
        edits: Its edits in their order, without authors and times; the format had no undone edits.
        model: The VLM that it corrected.
        design: The design.
    """

    edits: list[StoredEdit]
    model: str
    design: dict[str, Any]


def is_format3(folder: Path) -> bool:
    """Whether a folder holds a codebook of format 3."""
    try:
        return bool(_read_manifest(folder)["format"] == FORMAT)
    except (ReasonEditError, ValueError, RecursionError, KeyError, TypeError):
        return False


def read_format3(folder: Path) -> Format3Codebook:
    """Read a codebook of format 3.

    Raises:
        InputError: It is damaged.
        UnreadableError: It cannot be read now.
    """
    try:
        values = _read_manifest(folder)
        config = values["config"]
        edits = [StoredEdit.from_dict(edit) for edit in values["edits"]]
        model, design = config["model"], dict(config["design"])
        if not isinstance(model, str):
            raise TypeError("the model's name is not a string")
    except UnreadableError:
        raise
    except (ReasonEditError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise InputError(
            f"The codebook's file '{folder / MANIFEST}', of format 3, is damaged: {error}. No other file holds the "
            "text of its edits."
        ) from error
    duplicate = next((name for name, count in Counter(edit.id for edit in edits).items() if count > 1), None)
    if duplicate is not None:
        raise InputError(f"The codebook in '{folder}', of format 3, is damaged: it has two edits '{duplicate}'.")
    return Format3Codebook(edits, model, design)


def add_pictures(codebook: Format3Codebook, pictures: Mapping[str, Path | bytes]) -> EditMemory:
    """The edits with pictures, ready to be migrated: a memory without keys that reads each picture when it is needed.

    Args:
        codebook: The text of the edits.
        pictures: The picture of each edit, by the edit's id.

    Raises:
        InputError: The picture of an edit is missing, or cannot be read.
    """
    missing = [edit.id for edit in codebook.edits if edit.id not in pictures]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise InputError(
            f"There is no picture of the {'edit' if len(missing) == 1 else 'edits'} "
            f"{', '.join(repr(name) for name in missing[:5])}{more}: format 3 kept none, and an edit is embedded with "
            "its picture."
        )
    memory = _PicturesElsewhere()
    for edit in codebook.edits:
        image = picture_name(load_image(pictures[edit.id]))
        memory.sources[image] = pictures[edit.id]
        memory.add([Draft(replace(edit, image=image), [], {})])
    return memory


class _PicturesElsewhere(EditMemory):
    """A memory whose pictures lie outside of the codebook."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, Path | bytes] = {}

    def picture(self, name: str) -> Image.Image:
        """As for any memory."""
        image = load_image(self.sources[name])
        if picture_name(image) != name:
            raise ConflictError("A picture of the edits has changed meanwhile: run the same command again.")
        return image


def _read_manifest(folder: Path) -> dict[str, Any]:
    values = json.loads(read_content(folder / MANIFEST, _MAX_BYTES))
    if not isinstance(values, dict):
        raise TypeError("it is not a JSON object")
    return values
