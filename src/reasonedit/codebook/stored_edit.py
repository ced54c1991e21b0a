"""An edit as a codebook keeps it, and what can be made of it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import NotFoundError
from reasonedit.types import Edit, answer_as_fact


@dataclass(frozen=True)
class StoredEdit:
    """An edit as the codebook keeps it, for people to read and for another VLM to embed.

    Attributes:
        id: Its name.
        question: The question.
        answer: The right answer.
        reasoning: Why it is right, one fact per sentence.
        choices: The choices of a multiple-choice question.
        image: Name of the picture; see :func:`picture_name`.
        given: The evidence that a person gave for each sentence: boxes, or names of pictures.
        found: The windows that were found for each sentence.
        guessed: Whether the windows of each sentence are a guess.
        author: Who made the edit.
        time: When it was stored, in UTC (ISO 8601).
        version: The version of this package that stored it.
        contradicts: Ids of earlier edits that answer the same question about the same picture differently.
        answers: All right answers, where there are several.
    """

    id: str
    question: str
    answer: str
    reasoning: list[str]
    choices: list[str] | None = None
    image: str = ""
    given: list[list[Box | str]] = field(default_factory=list)
    found: list[list[Box]] = field(default_factory=list)
    guessed: list[bool] = field(default_factory=list)
    author: str = ""
    time: str = ""
    version: str = ""
    contradicts: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """What an answer is compared with: ``answers``, or ``answer`` alone."""
        return self.answers or [self.answer]

    @property
    def facts(self) -> list[str]:
        """Its facts: the answer, and the sentences of its reasoning."""
        return [answer_as_fact(self.question, self.answer), *self.reasoning]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StoredEdit:
        """The edit of which ``dataclasses.asdict`` and JSON made these values.

        Raises:
            TypeError: A field is missing, unknown, or of another type.
            ValueError: A field has an impossible value.
        """
        edit = cls(**values)
        texts = (edit.id, edit.question, edit.answer, edit.image, edit.author, edit.time, edit.version)
        lists = (edit.reasoning, edit.choices or [], edit.contradicts, edit.answers)
        if not all(isinstance(t, str) for t in texts):
            raise TypeError("a text of the edit is not a string")
        if not edit.id:
            raise ValueError("the edit has no id")
        if not all(isinstance(values, list) and all(isinstance(t, str) for t in values) for values in lists):
            raise TypeError("a list of texts of the edit is not a list of strings")
        if not (isinstance(edit.guessed, list) and all(isinstance(g, bool) for g in edit.guessed)):
            raise TypeError("the edit does not say which of its evidence is guessed")
        return replace(edit, given=_check_regions(edit.given, or_pictures=True), found=_check_regions(edit.found))

    def says_as(self, other: StoredEdit) -> bool:
        """Whether it says what another says, by whomever and whenever; a picture that the other lost says nothing."""
        names = ("question", "answer", "answers", "reasoning", "choices", *(["image"] if other.image else []))
        return all(getattr(self, name) == getattr(other, name) for name in names) and (
            self.given == other.given or not (any(self.given) or any(other.given))
        )

    @property
    def pictures(self) -> list[str]:
        """Names of all its pictures, its own first."""
        crops = [region for regions in self.given for region in regions if isinstance(region, str)]
        return list(dict.fromkeys([*([self.image] if self.image else []), *crops]))


def _check_regions(values: Any, *, or_pictures: bool = False) -> list[list[Any]]:
    """The regions of each sentence; where they may be pictures, also names of these."""
    if not isinstance(values, list) or not all(isinstance(regions, list) for regions in values):
        raise TypeError("the evidence of the edit is not a list of lists")
    return [[r if or_pictures and isinstance(r, str) else _check_box(r) for r in regions] for regions in values]


def _check_box(value: Any) -> Box:
    if not isinstance(value, (list, tuple)) or not all(type(x) in (int, float) for x in value):
        raise TypeError("a region of the edit is not a list of numbers")
    if not all(abs(x) < 1e9 for x in value):
        raise ValueError("a region of the edit lies outside of any picture")
    left, top, right, bottom = (float(x) for x in value)
    return left, top, right, bottom


def picture_name(image: Image.Image) -> str:
    """The name of an RGB picture: SHA-256 of its size and pixels."""
    digest = hashlib.sha256(f"{image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def as_edit(stored: StoredEdit, pictures: Mapping[str, Image.Image]) -> Edit:
    """The edit that was stored.

    Args:
        stored: What the codebook keeps of it.
        pictures: Its pictures by their names.

    Raises:
        NotFoundError: A picture is missing.
        InputError: The stored text is not allowed in an edit.
    """
    missing = [name for name in stored.pictures if name not in pictures] or ([] if stored.image else ["its own"])
    if missing:
        raise NotFoundError(f"The picture {missing[0]} of the edit '{stored.id}' is not in the codebook.")
    evidence = [[pictures[r] if isinstance(r, str) else r for r in regions] for regions in stored.given]
    return Edit(
        pictures[stored.image],
        stored.question,
        stored.answer,
        stored.reasoning,
        stored.choices,
        stored.id,
        evidence if any(evidence) else (),
        stored.author,
        stored.time,
        stored.answers,
    )


def row_of(edit: StoredEdit, pictures: str) -> dict[str, Any]:
    """An edit as a row of a file, with the columns that :class:`~reasonedit.data.EditFile` reads.

    Args:
        edit: The edit.
        pictures: The folder of the pictures, relative to that of the file.
    """
    evidence = [
        [f"{pictures}/{r}.png" if isinstance(r, str) else list(r) for r in regions] or None for regions in edit.given
    ]
    values = {
        "id": edit.id,
        "image": f"{pictures}/{edit.image}.png",
        "question": edit.question,
        "answer": edit.answer,
        "answers": edit.answers or None,
        "reasoning": edit.reasoning,
        "choices": edit.choices,
        "evidence": evidence if any(evidence) else None,
        "author": edit.author or None,
        "time": edit.time or None,
    }
    return {name: value for name, value in values.items() if value is not None}
