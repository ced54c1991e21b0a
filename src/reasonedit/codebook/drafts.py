"""What an edit writes into a codebook: facts, entries, and the draft that brings them there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from PIL import Image
from torch import Tensor

from reasonedit.boxes import Box
from reasonedit.kinds import KeyKind
from reasonedit.types import Edit

from .events import package_version
from .stored_edit import StoredEdit, picture_name


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact that a key stands for.

    Attributes:
        text: The sentence.
        kind: What the key is made of, or its name.
        edit_id: The edit that it comes from.
    """

    text: str
    kind: KeyKind
    edit_id: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", KeyKind(self.kind))


@dataclass(frozen=True)
class Entry:
    """What an edit writes: a key (D,), its radius, and the fact that it stands for."""

    key: Tensor
    radius: float
    fact: Fact


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
        """Draft an edit with what it writes.

        Args:
            edit: The edit.
            entries: What it writes.
            found: The windows that were found for each sentence.
            guessed: Whether the windows of each sentence are a guess.
        """
        pictures = {picture_name(edit.image): edit.image}
        given: list[list[Box | str]] = []
        for regions in edit.evidence:
            given.append([])
            for region in regions or ():
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
            [list(windows) for windows in found],
            list(guessed),
            edit.author,
            edit.time or datetime.now(timezone.utc).isoformat(timespec="seconds"),
            package_version(),
            answers=list(edit.answers),
        )
        return cls(stored, list(entries), pictures)
