"""What an edit stream is made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

from reasonedit.types import Edit, Query


@dataclass
class Probe:
    """A question to the edited model.

    Attributes:
        group: What it measures: the name of a :class:`~reasonedit.groups.ProbeGroup`.
        query: The question.
        answer: The right answer.
        edit_id: The edit it belongs to.
        answers: All right answers, where there are several, as in :class:`~reasonedit.Edit`.
    """

    group: str
    query: Query
    answer: str
    edit_id: str
    answers: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        """What an answer is compared with: ``answers``, or ``answer`` alone."""
        return self.answers or [self.answer]


class EditSource(Protocol):
    """A data set of edits. A new one is one new file with a class that has these members."""

    edits: int
    """How many edits are wanted."""

    def candidates(self) -> Iterator[Edit]:
        """Corrected samples in a fixed order. Those that the unedited model gets wrong become edits."""
        ...

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The probes of the edits, those of each edit together.

        Of the locality probes a stream keeps those that the unedited model gets right.

        Args:
            edits: The edits.
            right: Ids of the candidates that the unedited model got right before there were edits enough.
        """
        ...


@runtime_checkable
class ExpectsProbes(Protocol):
    """A source that says how many probes there should be, so that those that it cannot make are counted."""

    def expected_probes(self, edit_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """How many probes each edit should have, by its id and by group; asked after the probes were made."""
        ...


@runtime_checkable
class ReadsFiles(Protocol):
    """A source that says which files it reads beside those that its arguments name: results depend on them."""

    def files(self) -> Iterable[Path]:
        """The files, those that arguments name included or not."""
        ...


@runtime_checkable
class GivesTraining(Protocol):
    """A source whose class says how it gives other samples than those that are tested, for editors that are trained."""

    training: ClassVar[Mapping[str, Any]]
    """Arguments that are put in place of a config's, such as another split."""


@runtime_checkable
class GivesReasons(Protocol):
    """A source that says why the answer to each of its probes is right."""

    def reasons_of(self, probe_id: str) -> Sequence[str]:
        """The reasons of a probe that was made, by the id of its query, one sentence each; none where it has none."""
        ...
