"""FVQA as its authors publish it (arXiv 1606.05433)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reasonedit.images import path_inside

from .columns import read_text
from .pool import FilePool
from .rows import Row
from .sample import Sample

_BRACKETS = re.compile(r"\[\[(.*?)\]\]")


class FVQA(FilePool):
    """FVQA: ``all_qs_dict_release.json``, with its folder of images. The reasoning is the supporting fact.

    Args:
        root: Folder of the JSON file (``new_dataset_release``).
        images: Folder of the images; ``images`` in ``root`` when not given.
        **options: As for :class:`~reasonedit.data.pool.Pool`.
    """

    def __init__(self, root: str, images: str | None = None, **options: Any) -> None:
        self.path = Path(root).absolute() / "all_qs_dict_release.json"
        self.images = Path(images).absolute() if images is not None else self.path.parent / "images"
        super().__init__(**options)

    def sample(self, row: Row) -> Sample:
        """One question."""
        fact = remove_brackets(read_text(row, "fact_surface"))
        image = path_inside(self.images, read_text(row, "img_file"))
        return Sample(read_text(row, "id"), image, read_text(row, "question"), read_text(row, "answer"), [fact])


def remove_brackets(fact: str) -> str:
    """A supporting fact as a sentence, without the brackets around its two ends.

    >>> remove_brackets("[[Trousers]] can be found in [[a wardrobe]]")
    'Trousers can be found in a wardrobe.'
    """
    text = " ".join(_BRACKETS.sub(r"\1", fact).split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
