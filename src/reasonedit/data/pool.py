"""A pool of corrected samples, whatever file they come from."""

from __future__ import annotations

import logging
import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from reasonedit.errors import InputError, NotFoundError, ReasonEditError
from reasonedit.images import LONGEST_SHOWN, PictureOnDemand
from reasonedit.types import Edit

from .built_probes import count_built_probes, load_built_probes
from .locality import WordIndex, find_similar, find_unrelated
from .rows import Row, read_rows
from .sample import BLANK, Sample, query_of
from .source import Probe

_log = logging.getLogger(__name__)


class Pool(ABC):
    """A data set of corrected samples; those that the unedited model gets wrong are the edits.

    A new data set is one file with a subclass: :meth:`rows` reads it, :meth:`sample` makes a sample of a row.

    Probes are the edits themselves (reliability); what ``reasonedit build-probes`` made for them; and for locality
    samples of the same pool that share neither image nor question with an edit. Of those that the unedited model got
    right: some at random (``loc``), and those whose questions are the most similar to the edit's (``hard_loc``). Of
    all, right or wrong: those whose questions share the most words with it (``word_loc``), as the paper's authors
    choose them; a stream keeps those that the unedited model gets right.

    Args:
        edits: How many edits are wanted; as many as there are errors when not given.
        seed: Seed of the order of the samples and of the choice of unrelated ones.
        probes: Folder that ``reasonedit build-probes`` wrote.
        probe_seed: Which of the probe sets in it, where they were made with several seeds.
        locality: How many unrelated samples there are per edit, of each of the three kinds.
        encoder: The sentence encoder that finds similar questions.

    Attributes:
        strict: Whether a row that cannot be used stops a run, as it should where the file is the user's own; else such
            rows are left out, and a warning says how many; so is a sample whose picture turns out to be damaged.
        own_locality: Whether the ``loc`` probes are the data set's own, in place of samples at random.

    Raises:
        InputError: An argument is out of range.
    """

    strict: ClassVar[bool] = False
    own_locality: ClassVar[bool] = False

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
                raise InputError(f"{name} must be 1 or more, not {value}.")
        self.seed, self.locality, self.encoder = seed, locality, encoder
        self.probe_folder = None if probes is None else Path(probes).absolute()
        self.probe_seed = probe_seed
        self._wanted = edits
        self._damaged: set[str] = set()

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
            InputError: Something of it is missing or cannot be used.
        """

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """What else a user should know of the samples, in sentences; each is a warning when they are read."""
        return []

    def published_probes(self, edits: Sequence[Edit]) -> Mapping[str, list[Probe]]:
        """Probes that the data set itself has for edits, by the edits' ids; used where none were built."""
        return {}

    def unusable_probes(self, edits: Sequence[Edit]) -> Iterator[tuple[int, str]]:
        """Those of them that cannot be made, each with the number of its row and why; all pictures are opened."""
        return iter(())

    # ---- what all share

    @cached_property
    def samples(self) -> dict[str, Sample]:
        """All samples by their ids, read when they are first needed.

        Raises:
            InputError: There is none, or a row cannot be used; its number is named.
        """
        samples: dict[str, Sample] = {}
        bad: list[tuple[int, str]] = []
        for number, sample in self.read_samples():
            if isinstance(sample, Sample):
                samples[sample.id] = sample
            elif self.strict:
                raise InputError(
                    f"Row {number} of {self.name} cannot be used: {sample} 'reasonedit data check' lists all such rows."
                )
            else:
                bad.append((number, sample))
        if not samples:
            reason = f" that can be used: row {bad[0][0]}: {bad[0][1]}" if bad else "."
            raise InputError(f"There is no sample in {self.name}{reason}")
        if bad:
            _log.warning(
                "%d of the %d rows of %s cannot be used and are left out (the first is row %d: %s) "
                "'reasonedit data check' lists them all.",
                len(bad), len(bad) + len(samples), self.name, *bad[0],
            )  # fmt: skip
        for remark in self.remarks(samples):
            _log.warning("%s", remark)
        return samples

    def files(self) -> list[Path]:
        """The files of the samples' pictures."""
        return [path for sample in self.samples.values() for path in sample.files]

    @property
    def edits(self) -> int:
        """How many edits are wanted; no more than there are samples."""
        return min(self._wanted or len(self.samples), len(self.samples))

    def read_samples(self, *, open_images: bool = False) -> Iterator[tuple[int, Sample | str]]:
        """Each row's number, with its sample or with the reason why it cannot be used.

        Args:
            open_images: Whether images are opened; else only that their files exist is checked.
        """
        places: dict[str, str] = {}  # of the samples so far, by their ids
        for row in self.rows():
            try:
                if row.problem:
                    raise InputError(f"{row.problem}.")
                sample = self.sample(row)
                missing = next((str(path) for path in sample.files if not path.is_file()), None)
                if missing is not None:
                    raise NotFoundError(f"There is no image file '{missing[:LONGEST_SHOWN]}'.")
                sample.to_edit(None if open_images else lambda _: BLANK)
                if sample.id in places:
                    raise InputError(f"Its id '{sample.id}' is that of {places[sample.id]} too.")
            except ReasonEditError as error:
                yield row.number, f"'{row.file}': {error}" if row.file else str(error)
            else:
                places[sample.id] = row.place
                yield row.number, sample

    def candidates(self) -> Iterator[Edit]:
        """The samples as edits, in the order of the seed.

        Raises:
            InputError: A picture is damaged, in a strict pool.
        """
        for name in self._order():
            edit = self._open(name)
            if edit is not None:
                yield edit

    def _open(self, name: str) -> Edit | None:
        """A sample as an edit; ``None``, and one warning, where its picture is damaged and the pool is not strict."""
        try:
            return self.samples[name].to_edit(PictureOnDemand)
        except InputError as error:
            if self.strict:
                raise
            if name not in self._damaged:
                _log.warning("The sample '%s' of %s is left out: %s", name, self.name, error)
            self._damaged.add(name)
            return None

    def _order(self) -> list[str]:
        names = list(self.samples)
        random.Random(self.seed).shuffle(names)
        return names

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The probes of the edits, those of each edit together.

        Args:
            edits: The edits.
            right: Ids of samples that the unedited model got right.
        """
        if self.probe_folder is None:
            generality = self.published_probes(edits)
        else:
            generality = load_built_probes(self.probe_folder, self.probe_seed, edits)
        unrelated = find_unrelated(self.samples, edits, right)
        similar = find_similar(self.samples, edits, unrelated, self.locality, self.encoder)
        by_words = WordIndex(
            {name: self.samples[name].question for name in find_unrelated(self.samples, edits, self._order())}
        )
        own_locality = self.own_locality and self.probe_folder is None
        if not unrelated:
            _log.warning(
                "No sample of %s that is right is unrelated to all edits: no %slocality is measured.",
                self.name, "hard " if own_locality else "",
            )  # fmt: skip
        probes = []
        others: dict[str, Edit | None] = {}  # samples that ask for locality, each opened once
        for edit in edits:
            rng = random.Random(f"{self.seed}-{edit.id}")
            at_random = [] if own_locality else rng.sample(unrelated, min(self.locality, len(unrelated)))
            query = query_of(edit, edit.question, edit.choices, f"{edit.id}-rel")
            probes.append(Probe("rel", query, edit.answer, edit.id, edit.answers))
            probes += generality.get(edit.id, [])
            of_words = by_words.find(edit.question, self.locality)
            for group, names in (("loc", at_random), ("hard_loc", similar[edit.id]), ("word_loc", of_words)):
                others |= {name: self._open(name) for name in names if name not in others}
                asked = {name: other for name in names if (other := others[name]) is not None}
                probes += [_locality_probe(group, name, other, edit) for name, other in asked.items()]
        return probes

    def expected_probes(self, edit_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """As many locality probes as were asked for, and all of the built sets, those given up included."""
        locality = dict.fromkeys(("loc", "hard_loc", "word_loc"), self.locality)
        edits = [self.samples[name].to_edit(lambda _: BLANK) for name in edit_ids]
        built = {} if self.probe_folder is None else count_built_probes(self.probe_folder, self.probe_seed, edits)
        return {name: {**locality, **built.get(name, {})} for name in edit_ids}


def _locality_probe(group: str, name: str, other: Edit, edit: Edit) -> Probe:
    query = query_of(other, other.question, other.choices, f"{edit.id}-{group}-of-{name}")
    return Probe(group, query, other.answer, edit.id, other.answers)


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
        check_image_folder(self.images)
        return read_rows(self.path)


def check_image_folder(path: Path) -> None:
    """Make sure that there is a folder of images.

    Raises:
        NotFoundError: There is none.
    """
    if not path.is_dir():
        raise NotFoundError(f"There is no folder of images '{path}': name the one that their paths start from.")
