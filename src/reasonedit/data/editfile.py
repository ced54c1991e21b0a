"""A user's own corrections, in a JSONL or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.images import inside

from .pool import FilePool, Sample, text_of
from .rows import Row

_NEEDED = ("image", "question", "answer", "reasoning")
COLUMNS = ("id", "image", "question", "answer", "reasoning", "choices", "boxes")


class EditFile(FilePool):
    """Corrections of one's own.

    ============= ====================================================================================================
    ``image``     path of the image, from the images' folder on; in Parquet also its bytes, or ``{"bytes", "path"}``
    ``question``  text
    ``answer``    text; one of the choices where there are any
    ``reasoning`` why: text, split into sentences, or a list of sentences
    ``choices``   optional: list of texts
    ``boxes``     optional: for each sentence of the reasoning a list of boxes ``[left, top, right, bottom]`` (shares of
                  the upright image), or null where the evidence is to be found
    ``id``        optional: text; the row's number when not given
    ============= ====================================================================================================

    Args:
        path: The file: ``.jsonl``, ``.parquet``, or ``.json`` with a list.
        images: The folder that the images' paths start from, and do not leave; the file's own when not given.
        **options: As for :class:`~reasonedit.data.pool.Pool`.
    """

    strict = True

    def __init__(self, path: str, images: str | None = None, **options: Any) -> None:
        self.path = Path(path)
        self.images = Path(images) if images is not None else self.path.parent
        super().__init__(**options)

    def sample(self, row: Row) -> Sample:
        """As the columns say."""
        values = row.values
        missing = [f"'{name}'" for name in _NEEDED if values.get(name) is None]
        if missing:
            raise ReasonEditError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")
        reasoning = values.get("reasoning")
        if not isinstance(reasoning, (str, list)) or not all(isinstance(s, str) for s in reasoning):
            raise ReasonEditError("'reasoning' must be text or a list of sentences.")
        choices = values.get("choices")
        if choices is not None and not (isinstance(choices, list) and all(isinstance(c, str) for c in choices)):
            raise ReasonEditError(f"'choices' must be a list of texts, not {choices!r}.")
        boxes = values.get("boxes")
        if boxes is not None and not isinstance(boxes, list):
            raise ReasonEditError("'boxes' must be a list with the boxes of each sentence.")
        name = values.get("id")
        if name is not None and not isinstance(name, (str, int)):
            raise ReasonEditError(f"'id' must be text or a number, not {type(name).__name__}.")
        return Sample(
            str(row.number if name is None else name),
            self._image(values.get("image")),
            text_of(row, "question"),
            text_of(row, "answer"),
            reasoning,
            choices,
            [None if mine is None else [tuple(b) for b in mine] for mine in _lists(boxes)],
        )

    def _image(self, value: Any) -> Path | bytes:
        if isinstance(value, dict):  # as the datasets library stores images
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes):
            return value
        if isinstance(value, str) and value.startswith(("http://", "https://")):
            raise ReasonEditError(f"'image' is an address, '{value}', which is not fetched: download it.")
        if isinstance(value, str) and value.strip():
            return inside(self.images, value)
        kind = "empty" if isinstance(value, str) else type(value).__name__
        raise ReasonEditError(f"'image' must be a path, or in a Parquet file bytes, not {kind}.")


def _lists(boxes: list[Any] | None) -> list[Any]:
    for mine in boxes or []:
        if mine is not None and not (isinstance(mine, list) and all(isinstance(b, list) for b in mine)):
            raise ReasonEditError(
                "'boxes' must hold, for each sentence, a list of [left, top, right, bottom], or null."
            )
    return boxes or []
