"""FVQA as its authors publish it (arXiv 1606.05433)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from reasonedit.images import inside

from .pool import FilePool, Sample, text_of
from .rows import Row

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
        fact = plain(text_of(row, "fact_surface"))
        image = inside(self.images, text_of(row, "img_file"))
        return Sample(text_of(row, "id"), image, text_of(row, "question"), text_of(row, "answer"), [fact])


def plain(fact: str) -> str:
    """A supporting fact as a sentence, without the brackets around its two ends.

    >>> plain("[[Trousers]] can be found in [[a wardrobe]]")
    'Trousers can be found in a wardrobe.'
    """
    text = " ".join(_BRACKETS.sub(r"\1", fact).split()).rstrip(".")
    return f"{text[:1].upper()}{text[1:]}."
