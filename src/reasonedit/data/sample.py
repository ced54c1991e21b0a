"""A corrected sample of a data set, before it becomes an edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.types import Edit, Query

BLANK = Image.new("RGB", (8, 8))
"""Stands for a picture that is not looked at."""


@dataclass(frozen=True)
class Sample:
    """A corrected sample; its pictures are read when they are needed.

    Attributes:
        id: Its name.
        image: Path or bytes of the image.
        question: The question.
        answer: The right answer.
        reasoning: Why, as text or as sentences.
        choices: The choices of a multiple-choice question.
        evidence: For each sentence boxes and pictures (paths or bytes), or ``None``, as in :class:`~reasonedit.Edit`.
        answers: All right answers, where there are several, as in :class:`~reasonedit.Edit`.
        author: Who made the correction.
        time: When it was made (ISO 8601).
    """

    id: str
    image: Path | bytes
    question: str
    answer: str
    reasoning: str | Sequence[str]
    choices: Sequence[str] | None = None
    evidence: Sequence[Sequence[Box | Path | bytes] | None] = ()
    answers: Sequence[str] = ()
    author: str = ""
    time: str = ""

    def to_edit(self, load: Callable[[Path | bytes], Image.Image] | None = None) -> Edit:
        """The sample as an edit.

        Args:
            load: Opens a picture; :func:`~reasonedit.images.load_image` when not given.

        Raises:
            InputError: Something in it cannot be used.
        """
        open_picture: Callable[[Path | bytes], Any] = load or (lambda picture: picture)  # the edit opens it itself
        evidence = [
            None if regions is None else [r if isinstance(r, tuple) else open_picture(r) for r in regions]
            for regions in self.evidence
        ]
        return Edit(
            open_picture(self.image),
            self.question,
            self.answer,
            self.reasoning,  # type: ignore[arg-type]  # the edit converts it, and those below
            self.choices,  # type: ignore[arg-type]
            self.id,
            evidence,
            self.author,
            self.time,
            self.answers,  # type: ignore[arg-type]
        )

    @property
    def files(self) -> list[Path]:
        """The files of its pictures."""
        pictures = [self.image, *(region for regions in self.evidence for region in regions or ())]
        return [picture for picture in pictures if isinstance(picture, Path)]


def query_of(edit: Edit, question: str, choices: list[str] | None, name: str) -> Query:
    """A question about the picture of an edit, which both share: copies for all probes would fill the memory.

    Args:
        edit: The edit.
        question: The question.
        choices: Its choices, if there are any.
        name: Its id.

    Raises:
        InputError: The question or the choices cannot be used.
    """
    query = Query(BLANK, question, choices, name)
    query.image = edit.image
    return query
