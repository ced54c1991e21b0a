"""A pool of corrected samples, whatever file they come from."""

from __future__ import annotations

import logging
import math
import random
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from reprlib import repr as short
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import ReasonEditError
from reasonedit.images import LONGEST_SHOWN
from reasonedit.types import Edit, Query

from .built import built_probes
from .rows import Row, read_rows
from .source import Probe

_log = logging.getLogger(__name__)

BLANK = Image.new("RGB", (8, 8))
"""Stands for a picture that is not looked at."""


@dataclass(frozen=True)
class Sample:
    """A corrected sample; its image is read when it is needed.

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

    def edit(self, load: Callable[[Path | bytes], Image.Image] | None = None) -> Edit:
        """The sample as an edit.

        Args:
            load: Opens a picture; :func:`~reasonedit.images.load_image` when not given.

        Raises:
            ReasonEditError: Anything of it is unusable.
        """
        opened: Callable[[Path | bytes], Any] = load or (lambda picture: picture)  # which the edit opens itself
        evidence = [
            None if mine is None else [r if isinstance(r, tuple) else opened(r) for r in mine] for mine in self.evidence
        ]
        return Edit(
            opened(self.image),
            self.question,
            self.answer,
            self.reasoning,  # type: ignore[arg-type]  # converted on the way in, as those below
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
        return [p for p in (self.image, *(r for mine in self.evidence for r in mine or ())) if isinstance(p, Path)]


class Pool(ABC):
    """A data set of corrected samples; those that the unedited model gets wrong are the edits.

    A new data set is one file with a subclass: :meth:`rows` reads it, :meth:`sample` makes a sample of a row.

    Probes are the edits themselves (reliability); what ``reasonedit build-probes`` made for them; and for locality
    samples of the same pool that the unedited model got right and that share neither image nor question with an edit:
    some at random, and those whose questions are the most similar to the edit's.

    Args:
        edits: How many edits are wanted; all that are found when not given.
        seed: Seed of the order of the samples and of the choice of unrelated ones.
        probes: Folder that ``reasonedit build-probes`` wrote.
        probe_seed: Which of the probe sets in it, where they were made with several seeds.
        locality: How many unrelated samples there are per edit, of each of the two kinds.
        encoder: The sentence encoder that finds similar questions.

    Attributes:
        strict: Whether a row that cannot be used stops a run, as it should where the file is the user's own; else such
            rows are left out, and a warning says how many.

    Raises:
        ReasonEditError: An argument is out of range.
    """

    strict: ClassVar[bool] = False

    def __init__(
        self,
        edits: int | None = None,
        seed: int = 0,
        probes: str | None = None,
        probe_seed: int = 0,
        locality: int = 3,
        encoder: str = "embedded",
    ) -> None:
        for name, value in (("edits", edits), ("locality", locality)):
            if value is not None and value < 1:
                raise ReasonEditError(f"{name} must be 1 or more, not {value}.")
        self.seed, self.locality, self.encoder = seed, locality, encoder
        self.built = None if probes is None else (Path(probes).absolute(), probe_seed)
        self._wanted = edits

    # ---- what a data set says

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call it."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Its rows, those that cannot be read included."""

    @abstractmethod
    def sample(self, row: Row) -> Sample:
        """The sample of a row.

        Raises:
            ReasonEditError: Something of it is missing or unusable.
        """

    # ---- what all share

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """All samples by their ids, read when they are first needed.

        Raises:
            ReasonEditError: There is none, or a row cannot be used; its number is named.
        """
        samples, bad = {}, []
        for number, found in self.read():
            if isinstance(found, Sample):
                samples[found.id] = found
            elif self.strict:
                raise ReasonEditError(
                    f"Row {number} of {self.name} cannot be used: {found} 'reasonedit data check' lists all such rows."
                )
            else:
                bad.append((number, found))
        if not samples:
            reason = f" that can be used: row {bad[0][0]}: {bad[0][1]}" if bad else "."
            raise ReasonEditError(f"There is no sample in {self.name}{reason}")
        if bad:
            _log.warning(
                "%d of the %d rows of %s cannot be used and are left out (the first is row %d: %s) "
                "'reasonedit data check' lists them all.",
                len(bad), len(bad) + len(samples), self.name, *bad[0],
            )  # fmt: skip
        for remark in self.remarks(samples):
            _log.warning("%s", remark)
        return samples

    @property
    def edits(self) -> int:
        """How many edits are wanted; no more than there are samples."""
        return min(self._wanted or len(self.samples), len(self.samples))

    def read(self, *, images: bool = False) -> Iterator[tuple[int, Sample | str]]:
        """Each row's number, with its sample, or with the reason why it is none.

        Args:
            images: Whether images are opened too; else it is only seen whether there is such a file.
        """
        seen: dict[str, str] = {}
        for row in self.rows():
            try:
                if row.problem:
                    raise ReasonEditError(f"{row.problem}.")
                sample = self.sample(row)
                gone = next((str(path) for path in sample.files if not path.is_file()), None)
                if gone is not None:
                    raise ReasonEditError(f"There is no image file '{gone[:LONGEST_SHOWN]}'.")
                sample.edit(None if images else lambda _: BLANK)
                if sample.id in seen:
                    raise ReasonEditError(f"Its id '{sample.id}' is that of {seen[sample.id]} too.")
            except ReasonEditError as error:
                yield row.number, f"'{row.file}': {error}" if row.file else str(error)
            else:
                seen[sample.id] = row.place
                yield row.number, sample

    def candidates(self) -> Iterator[Edit]:
        """The samples as edits, in the order of the seed."""
        names = list(self.samples)
        random.Random(self.seed).shuffle(names)
        for name in names:
            yield self.samples[name].edit()

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The probes of the edits, those of each edit together.

        Args:
            edits: The edits.
            right: Ids of samples that the unedited model got right.
        """
        built = built_probes(*self.built, edits) if self.built else self.published(edits)
        unrelated = self._unrelated(edits, right)
        similar = self._similar(edits, unrelated)
        if not unrelated:
            _log.warning("No sample of %s that is right is unrelated to all edits: no locality is measured.", self.name)
        found = []
        for edit in edits:
            rng = random.Random(f"{self.seed}-{edit.id}")
            drawn = rng.sample(unrelated, min(self.locality, len(unrelated)))
            query = Query(edit.image, edit.question, edit.choices, f"{edit.id}-rel")
            found.append(Probe("rel", query, edit.answer, edit.id, edit.answers))
            found += built.get(edit.id, [])
            found += [self._kept("loc", name, edit) for name in drawn]
            found += [self._kept("hard_loc", name, edit) for name in similar[edit.id]]
        return found

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """What else is to be known of samples, in sentences; a warning says it when they are read."""
        return []

    def published(self, edits: Sequence[Edit]) -> Mapping[str, list[Probe]]:
        """Probes that the data set itself has for edits, by the edits' ids; used where none were built."""
        return {}

    def _kept(self, group: str, name: str, edit: Edit) -> Probe:
        other = self.samples[name].edit()
        query = Query(other.image, other.question, other.choices, f"{edit.id}-{group}-{name}")
        return Probe(group, query, other.answer, edit.id, other.answers)

    def _unrelated(self, edits: Sequence[Edit], right: Sequence[str]) -> list[str]:
        images = {self.samples[e.id].image for e in edits}
        questions = {e.question.casefold() for e in edits}
        return [
            name
            for name in right
            if (sample := self.samples[name]).image not in images
            and sample.question.strip().casefold() not in questions
        ]

    def _similar(self, edits: Sequence[Edit], unrelated: Sequence[str]) -> Mapping[str, list[str]]:
        if not unrelated:
            return {e.id: [] for e in edits}
        from reasonedit.embedding import SentenceEncoder

        encoder = SentenceEncoder.from_pretrained(self.encoder)
        ours = encoder.encode([e.question for e in edits])
        theirs = encoder.encode([self.samples[name].question for name in unrelated])
        nearest = (ours @ theirs.T).topk(min(self.locality, len(unrelated)), dim=1).indices.tolist()
        return {e.id: [unrelated[i] for i in mine] for e, mine in zip(edits, nearest, strict=True)}


class FilePool(Pool):
    """A pool in one file, with a folder of images beside it.

    Attributes:
        path: The file.
        images: The folder that the images' paths start from.
    """

    path: Path
    images: Path

    @property
    def name(self) -> str:
        """The file."""
        return f"'{self.path}'"

    def rows(self) -> Iterator[Row]:
        """Its rows."""
        folder_of_images(self.images)
        return read_rows(self.path)


def folder_of_images(path: Path) -> Path:
    """The folder of a data set's images.

    Raises:
        ReasonEditError: There is none.
    """
    if not path.is_dir():
        raise ReasonEditError(f"There is no folder of images '{path}': name the one that their paths start from.")
    return path


def text_of(row: Row, *names: str, numbers: bool = False) -> str:
    """The text in the first of some columns that the row has.

    Args:
        row: The row.
        names: The columns.
        numbers: Whether a number counts as its text.

    Raises:
        ReasonEditError: There is none, or it holds no text.
    """
    for name in names:
        value = row.values.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if value is not None and not isinstance(value, str):
            if numbers:
                return written(value, name)
            raise ReasonEditError(f"'{name}' must be text, not {type(value).__name__}.")
    raise ReasonEditError(f"'{names[0]}' is missing or empty.")


def written(value: Any, name: str) -> str:
    """A text, or a number as its text: pandas makes 1.0 of a 1 where another row has none.

    Raises:
        ReasonEditError: It is neither.

    >>> written(2.0, "answer"), written(2.5, "answer"), written("two", "answer")
    ('2', '2.5', 'two')
    """
    if isinstance(value, str):
        return value
    number = number_in(value)
    if number is not None:
        return str(int(number)) if number == int(number) else str(number)
    shown = f"{value!r}".lower() if isinstance(value, bool) else type(value).__name__
    raise ReasonEditError(f"'{name}' must be text or a number, not {shown}.")


def number_in(value: Any) -> int | float | Decimal | None:
    """A finite number, of Python or numpy; ``None`` for anything else, ``True`` and ``False`` included."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def choices_of(value: Any) -> list[str] | None:
    """The choices in a column; ``None`` where there are none, as for an open question.

    Raises:
        ReasonEditError: It is no list of texts.
    """
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if value is None or (isinstance(value, (list, tuple, str)) and not value):
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(c, str) or number_in(c) is not None for c in value):
        raise ReasonEditError(f"'choices' must be a list of texts, not {short(value)}.")
    return [written(c, "choices") for c in value]


def chosen(choices: Any, index: Any) -> tuple[list[str] | None, str | None]:
    """The choices of a row and the right one among them; ``None`` where it has none.

    Raises:
        ReasonEditError: The choices are no list of text, or the index is none of theirs.
    """
    kept = choices_of(choices)
    if kept is None or index is None:
        return kept, None
    number = number_in(index)
    if number is None or number != int(number) or not 0 <= number < len(kept):
        raise ReasonEditError(f"The index {short(index)} names none of the {len(kept)} choices.")
    return kept, kept[int(number)]
