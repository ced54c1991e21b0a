"""Codebooks of format 3: the text of their edits. They kept no pictures, which must come from somewhere else.

A folder of that format holds ``codebook.json`` (the edits' text, the design, the VLM's name) and ``keys.safetensors``.
The text is plain JSON and is read without the keys; these were made in ways that nobody noted, and are not used.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image

from .disk.errors import UnreadableError
from .disk.files import read_content
from .disk.manifest import MANIFEST
from .memory import EditMemory
from .records import Draft, StoredEdit, picture_name

FORMAT = 3
_MOST = 512 * 2**20
"""Bytes: of text, some hundred thousand edits."""


@dataclass(frozen=True)
class Former:
    """What a codebook of format 3 says.

    Attributes:
        edits: Its edits in their order. Authors, times and undone edits there were none.
        model: The VLM that it corrected.
        design: The design.
    """

    edits: list[StoredEdit]
    model: str
    design: dict[str, Any]


def is_former(folder: Path) -> bool:
    """Whether a folder holds a codebook of format 3."""
    try:
        return bool(_content(folder)["format"] == FORMAT)
    except (ReasonEditError, ValueError, RecursionError, KeyError, TypeError):
        return False


def read_former(folder: Path) -> Former:
    """Read a codebook of format 3.

    Raises:
        ReasonEditError: It is damaged.
    """
    try:
        values = _content(folder)
        config = values["config"]
        edits = [StoredEdit.from_dict(mine) for mine in values["edits"]]
        model, design = config["model"], dict(config["design"])
        if not isinstance(model, str):
            raise TypeError("the model's name is no text")
    except UnreadableError:
        raise
    except (ReasonEditError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise ReasonEditError(
            f"The codebook's file '{folder / MANIFEST}', of format 3, is damaged: {error}. No other file holds the "
            "text of its edits."
        ) from error
    twice = next((name for name, count in Counter(edit.id for edit in edits).items() if count > 1), None)
    if twice is not None:
        raise ReasonEditError(f"The codebook in '{folder}', of format 3, is damaged: it has two edits '{twice}'.")
    return Former(edits, model, design)


def with_pictures(former: Former, pictures: Mapping[str, Path | bytes]) -> EditMemory:
    """The edits with pictures, to be migrated: a memory without keys, which reads a picture when it is asked for.

    Args:
        former: What was read.
        pictures: For each edit, by id, its picture.

    Raises:
        ReasonEditError: The picture of an edit is missing, or cannot be read.
    """
    without = [edit.id for edit in former.edits if edit.id not in pictures]
    if without:
        more = f" and {len(without) - 5} more" if len(without) > 5 else ""
        raise ReasonEditError(
            f"There is no picture of the {'edit' if len(without) == 1 else 'edits'} "
            f"{', '.join(repr(name) for name in without[:5])}{more}: format 3 kept none, and an edit is embedded with "
            "its picture."
        )
    memory = _Pictured()
    for edit in former.edits:
        image = picture_name(load_image(pictures[edit.id]))
        memory.sources[image] = pictures[edit.id]
        memory.add([Draft(replace(edit, image=image), [], {})])
    return memory


class _Pictured(EditMemory):
    """A memory whose pictures lie somewhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.sources: dict[str, Path | bytes] = {}

    def picture(self, name: str) -> Image.Image:
        """As for any memory."""
        found = load_image(self.sources[name])
        if picture_name(found) != name:
            raise ReasonEditError("A picture of the edits has changed meanwhile: run the same command again.")
        return found


def _content(folder: Path) -> dict[str, Any]:
    values = json.loads(read_content(folder / MANIFEST, _MOST))
    if not isinstance(values, dict):
        raise TypeError("it is no JSON object")
    return values
