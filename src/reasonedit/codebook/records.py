"""What the codebook keeps of an edit."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

from PIL import Image
from torch import Tensor

from reasonedit.boxes import Box
from reasonedit.errors import ReasonEditError
from reasonedit.kinds import KeyKind
from reasonedit.types import Edit


@dataclass(frozen=True, slots=True)
class Fact:
    """One value under a key.

    Attributes:
        text: The sentence.
        kind: What the key is made of; its name is taken as well.
        edit_id: The edit it comes from.
    """

    text: str
    kind: KeyKind
    edit_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", KeyKind(self.kind))


@dataclass(frozen=True)
class Entry:
    """What an edit writes: a key (D,), its radius, and the fact it stands for."""

    key: Tensor
    radius: float
    fact: Fact


@dataclass(frozen=True)
class StoredEdit:
    """An edit as the codebook keeps it: for a person to read, and to be embedded again for another VLM.

    Attributes:
        id: Its name.
        question: The question.
        answer: The right answer.
        reasoning: Why it is right, one fact per sentence.
        choices: The choices of a multiple-choice question.
        image: Name of the picture, by its pixels; see :func:`picture_name`.
        given: For each sentence the evidence that a person gave: boxes, or names of pictures.
        found: For each sentence the windows that were found.
        guessed: For each sentence whether what was found is a guess.
        author: Who made the edit.
        time: When it was stored, in UTC (ISO 8601).
        version: The version of this package that stored it.
        contradicts: Edits that were there and answer the same question about the same picture otherwise.
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

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StoredEdit:
        """From what ``dataclasses.asdict`` and JSON made of one.

        Raises:
            TypeError: A field is missing, unknown, or of another type.
            ValueError: A field cannot be.
        """
        made = cls(**values)
        texts = (made.id, made.question, made.answer, made.image, made.author, made.time, made.version)
        lists = (made.reasoning, made.choices or [], made.contradicts, made.answers)
        if not all(isinstance(t, str) for t in texts):
            raise TypeError("a text of the edit is none")
        if not made.id:
            raise ValueError("the edit has no id")
        if not all(isinstance(mine, list) and all(isinstance(t, str) for t in mine) for mine in lists):
            raise TypeError("a list of texts of the edit is none")
        if not (isinstance(made.guessed, list) and all(isinstance(g, bool) for g in made.guessed)):
            raise TypeError("what of the evidence is guessed is not said")
        return replace(made, given=_regions(made.given, or_pictures=True), found=_regions(made.found))

    @property
    def pictures(self) -> list[str]:
        """Names of all its pictures, its own first."""
        crops = [r for mine in self.given for r in mine if isinstance(r, str)]
        return list(dict.fromkeys([*([self.image] if self.image else []), *crops]))


def _regions(values: Any, *, or_pictures: bool = False) -> list[list[Any]]:
    """For each sentence its regions."""
    if not isinstance(values, list) or not all(isinstance(mine, list) for mine in values):
        raise TypeError("the evidence of the edit is none")
    return [[r if or_pictures and isinstance(r, str) else _box(r) for r in mine] for mine in values]


def _box(value: Any) -> Box:
    if not isinstance(value, (list, tuple)) or not all(type(x) in (int, float) for x in value):
        raise TypeError("a region of the edit is none")
    if not all(abs(x) < 1e9 for x in value):
        raise ValueError("a region of the edit lies nowhere")
    left, top, right, bottom = (float(x) for x in value)
    return left, top, right, bottom


@dataclass(frozen=True)
class Draft:
    """An edit on its way into the codebook.

    Attributes:
        edit: The edit.
        entries: What it writes.
        pictures: Its pictures by their names.
    """

    edit: StoredEdit
    entries: list[Entry]
    pictures: dict[str, Image.Image]

    @classmethod
    def of(
        cls,
        edit: Edit,
        entries: Sequence[Entry],
        found: Sequence[Sequence[Box]] = (),
        guessed: Sequence[bool] = (),
    ) -> Draft:
        """From an edit and what it writes.

        Args:
            edit: The edit.
            entries: What it writes.
            found: For each sentence the windows that were found.
            guessed: For each sentence whether they are a guess.
        """
        pictures = {picture_name(edit.image): edit.image}
        given: list[list[Box | str]] = []
        for mine in edit.evidence:
            given.append([])
            for region in mine or ():
                if isinstance(region, Image.Image):
                    pictures[picture_name(region)] = region
                given[-1].append(picture_name(region) if isinstance(region, Image.Image) else region)
        stored = StoredEdit(
            edit.id,
            edit.question,
            edit.answer,
            list(edit.reasoning),
            edit.choices,
            picture_name(edit.image),
            given,
            [list(mine) for mine in found],
            list(guessed),
            edit.author,
            edit.time or datetime.now(timezone.utc).isoformat(timespec="seconds"),
            metadata.version("reasonedit"),
            answers=list(edit.answers),
        )
        return cls(stored, list(entries), pictures)


def picture_name(image: Image.Image) -> str:
    """The name of an RGB picture: SHA-256 of its size and pixels."""
    digest = hashlib.sha256(f"{image.width}x{image.height} ".encode())
    digest.update(image.tobytes())
    return digest.hexdigest()


def as_edit(stored: StoredEdit, pictures: Mapping[str, Image.Image]) -> Edit:
    """The edit that was stored.

    Args:
        stored: What the codebook kept.
        pictures: Its pictures by their names.

    Raises:
        ReasonEditError: A picture is missing, or what was kept is no edit any more.
    """
    missing = [name for name in stored.pictures if name not in pictures] or ([] if stored.image else ["its own"])
    if missing:
        raise ReasonEditError(f"The picture {missing[0]} of the edit '{stored.id}' is not in the codebook.")
    regions = [[pictures[r] if isinstance(r, str) else r for r in mine] for mine in stored.given]
    return Edit(
        pictures[stored.image],
        stored.question,
        stored.answer,
        stored.reasoning,
        stored.choices,
        stored.id,
        regions if any(regions) else (),
        stored.author,
        stored.time,
        stored.answers,
    )


def row_of(edit: StoredEdit, pictures: str) -> dict[str, Any]:
    """An edit as a row of a file, with the columns that :class:`~reasonedit.data.EditFile` reads.

    Args:
        edit: The edit.
        pictures: The pictures' folder, from the file's own on.
    """
    evidence = [[f"{pictures}/{r}.png" if isinstance(r, str) else list(r) for r in mine] or None for mine in edit.given]
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
