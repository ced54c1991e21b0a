"""A user's own corrections, in a JSONL or Parquet file."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from reasonedit.boxes import Box
from reasonedit.errors import InputError
from reasonedit.images import find_spelling

from .columns import as_choices, as_number, as_text, read_text
from .pictures import picture_in
from .pool import FilePool
from .rows import Row
from .sample import Sample

_NEEDED = ("image", "question", "answer", "reasoning")
COLUMNS = (
    "id",
    "image",
    "question",
    "answer",
    "answers",
    "reasoning",
    "choices",
    "evidence",
    "boxes",
    "author",
    "time",
)
_SIDES = ("left", "top", "right", "bottom")


class EditFile(FilePool):
    """Corrections of one's own, or those of a codebook that ``reasonedit codebook export`` wrote.

    ============= ====================================================================================================
    ``image``     path of the image, from the images' folder on; or its bytes, in Parquet as they are or as ``{"bytes",
                  "path"}``, in JSON as base64 or a ``data:`` address
    ``question``  text
    ``answer``    text, or a number; one of the choices where there are any
    ``reasoning`` why: text, split into sentences, or a list of sentences
    ``choices``   optional: list of texts; none, or an empty list, for an open question
    ``evidence``  optional: for each sentence of the reasoning a list of boxes ``[left, top, right, bottom]`` (shares of
                  the upright image) and of pictures of their own, or null where it is to be found; also ``boxes``
    ``answers``   optional: all right answers, where there are several, ``answer`` among them
    ``id``        optional: text or a number; the row's number when not given
    ``author``    optional: text
    ``time``      optional: text (ISO 8601), or a time
    ============= ====================================================================================================

    Args:
        path: The file: ``.jsonl``, ``.parquet``, or ``.json`` with a list.
        images: The folder that the images' paths start from, and do not leave; the file's own when not given.
        **options: As for :class:`~reasonedit.data.pool.Pool`.
    """

    strict = True

    def __init__(self, path: str, images: str | None = None, **options: Any) -> None:
        self.path = find_spelling(Path(path).absolute())
        self.images = find_spelling(Path(images).absolute()) if images is not None else self.path.parent
        super().__init__(**options)

    def sample(self, row: Row) -> Sample:
        """As the columns say."""
        values = row.values
        missing = [f"'{name}'" for name in _NEEDED if values.get(name) is None]
        if missing:
            raise InputError(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing.")
        reasoning = values["reasoning"]
        if not isinstance(reasoning, (str, list)) or not all(isinstance(s, str) for s in reasoning):
            raise InputError("'reasoning' must be text or a list of sentences.")
        answers = values.get("answers")
        if answers is not None and not isinstance(answers, list):
            raise InputError("'answers' must be a list of texts: all right answers.")
        name, time = values.get("id"), values.get("time")
        author = values.get("author")
        return Sample(
            str(row.number) if name is None else as_text(name, "id"),
            picture_in(values["image"], self.images, "image"),
            read_text(row, "question"),
            read_text(row, "answer", numbers=True),
            reasoning,
            as_choices(values.get("choices")),
            self._evidence(values),
            [as_text(a, "answers") for a in answers or ()],
            "" if author is None else as_text(author, "author"),
            time.isoformat() if isinstance(time, datetime) else "" if time is None else as_text(time, "time"),
        )

    def _evidence(self, values: Mapping[str, Any]) -> list[list[Box | Path | bytes] | None]:
        columns = [name for name in ("evidence", "boxes") if values.get(name) is not None]
        if not columns:
            return []
        if len(columns) > 1 and values["evidence"] != values["boxes"]:
            raise InputError("'evidence' and 'boxes' say two things: give one of them.")
        column = columns[0]
        given = values[column]
        if not isinstance(given, list) or not all(regions is None or isinstance(regions, list) for regions in given):
            raise _wrong_shape(column)
        return [None if regions is None else [self._region(region, column) for region in regions] for regions in given]

    def _region(self, region: Any, column: str) -> Box | Path | bytes:
        if isinstance(region, dict) and set(region) == set(_SIDES):
            region = [region[side] for side in _SIDES]
        if isinstance(region, (str, bytes, dict)):
            return picture_in(region, self.images, column)
        sides = [as_number(x) for x in region] if isinstance(region, (list, tuple)) else []
        if len(sides) != len(_SIDES) or None in sides:
            raise _wrong_shape(column)
        left, top, right, bottom = (float(x) for x in sides if x is not None)
        return left, top, right, bottom


def _wrong_shape(column: str) -> InputError:
    return InputError(
        f"'{column}' must hold, for each sentence, a list of boxes (four numbers: left, top, right, bottom) and of "
        "pictures, or null."
    )
