"""What the rows of MMEdit and of the benchmarks after it have in common.

MMEdit's loader (github.com/zjunlp/EasyEdit, ``easyeditor/dataset/vqa.py``) reads of each row:

=========================  ==========================================================================================
``image``, ``src``         the picture and the question of the edit
``alt``, ``pred``          the answer that is to be written, and what the authors' own model said (not read here)
``rephrase``               the question in other words
``image_rephrase``         the picture made again
``m_loc``, ``m_loc_q``,    multimodal locality: another picture, a question about it and its answer
``m_loc_a``
``loc``, ``loc_ans``       text locality: a question without a picture, and its answer
=========================  ==========================================================================================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from reasonedit.errors import ReasonEditError
from reasonedit.groups import LABELS
from reasonedit.images import PictureOnDemand, path_inside
from reasonedit.types import Edit, Query, answer_as_fact

from ..columns import read_text
from ..pool import FilePool
from ..rows import Row
from ..sample import Sample, query_of
from ..source import Probe

_log = logging.getLogger(__name__)

_MARK = "nq question:"
"""Stands before the questions of Natural Questions in these files."""


@dataclass(frozen=True)
class Planned:
    """A probe that a row has, before its picture is opened.

    Attributes:
        group: The group.
        question: Reads the question.
        answer: Reads the right answer.
        image: The column of the picture, ``""`` for the edit's own, ``None`` for a question without a picture.
    """

    group: str
    question: Callable[[], str]
    answer: Callable[[], str]
    image: str | None = ""


class BenchmarkRows(FilePool):
    """Rows of MMEdit's form, each with its own probes.

    What these benchmarks do not have is made as for every pool: ``hard_loc`` and ``word_loc`` are samples of the same
    file. ``loc`` is the benchmark's own, one for each edit. Each has a split ``"train"``.
    """

    own_locality = True
    training: ClassVar[Mapping[str, Any]] = {"split": "train"}

    def sample(self, row: Row) -> Sample:
        """One edit; its id is the place of its row, from 1."""
        self._rows[str(row.number)] = row
        question, answer = self.asked_of(row)
        image = path_inside(self.images, read_text(row, "image"))
        return Sample(str(row.number), image, question, answer, self.reasoning(row, question, answer))

    @cached_property
    def _rows(self) -> dict[str, Row]:
        """The rows by the ids of their samples, once these are read."""
        return {}

    # ---- what a benchmark says

    def asked_of(self, row: Row) -> tuple[str, str]:
        """The question of the edit, and its right answer."""
        return read_text(row, "src"), read_text(row, "alt", numbers=True)

    def reasoning(self, row: Row, question: str, answer: str) -> list[str]:
        """The facts of the edit: the answer alone, where a benchmark has no reasoning."""
        return [state_answer(question, answer)]

    def planned(self, row: Row) -> Iterator[Planned]:
        """The probes of a row; one whose question, answer or picture is missing is counted when it is made."""
        _, answer = self.asked_of(row)
        yield Planned("t_gen", lambda: read_text(row, "rephrase"), lambda: answer)
        yield Planned("i_gen", lambda: read_text(row, "src"), lambda: answer, "image_rephrase")
        yield from self.locality_of(row)

    def locality_of(self, row: Row) -> Iterator[Planned]:
        """The two localities of a row: with another picture, and without one."""
        yield Planned(
            "loc", lambda: read_text(row, "m_loc_q"), lambda: read_text(row, "m_loc_a", numbers=True), "m_loc"
        )
        yield Planned(
            "text_loc",
            lambda: without_mark(read_text(row, "loc")),
            lambda: read_text(row, "loc_ans", numbers=True),
            None,
        )

    def remarks(self, samples: Mapping[str, Sample]) -> list[str]:
        """That there is no reasoning."""
        return [f"{self.name} has no reasoning: the answer is the only fact of each of its {len(samples)} edits."]

    # ---- probes

    def published_probes(self, edits: Sequence[Edit]) -> Mapping[str, list[Probe]]:
        """The probes of edits; what cannot be made is counted in one warning, with the first reason."""
        made: dict[str, list[Probe]] = {}
        problems: list[str] = []
        for edit, group, probe in self._made_probes(edits):
            if isinstance(probe, Probe):
                made.setdefault(edit.id, []).append(probe)
            else:
                problems.append(f"{LABELS[group]} of row {edit.id}: {probe}")
        if problems:
            _log.warning(
                "%d probes of %s cannot be made (the first, %s)",
                len(problems),
                self.name,
                problems[0].rstrip(".") + ".",
            )
        return made

    def unusable_probes(self, edits: Sequence[Edit]) -> Iterator[tuple[int, str]]:
        """Those that cannot be made, each with the number of its row and why; all pictures are opened."""
        for edit, group, probe in self._made_probes(edits):
            if isinstance(probe, str):
                yield self._rows[edit.id].number, f"{LABELS[group]}: {probe}"

    def _made_probes(self, edits: Sequence[Edit]) -> Iterator[tuple[Edit, str, Probe | str]]:
        """Each probe of edits with its edit and group, or the reason why it cannot be made."""
        for edit in edits:
            row, counts = self._rows[edit.id], dict.fromkeys(LABELS, 0)
            for plan in self.planned(row):
                number = counts[plan.group]
                counts[plan.group] += 1
                try:
                    query = self._query(plan, row, edit, f"{edit.id}-{plan.group}-{number}")
                    yield edit, plan.group, Probe(plan.group, query, plan.answer(), edit.id)
                except ReasonEditError as error:
                    yield edit, plan.group, str(error)

    def expected_probes(self, edit_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """As many as the rows have, made or not, beside what all pools have."""
        expected = super().expected_probes(edit_ids)
        if self.probe_folder is not None:
            return expected
        for name, counts in expected.items():
            counts.pop("loc")
            for plan in self.planned(self._rows[name]):
                counts[plan.group] = counts.get(plan.group, 0) + 1
        groups = {group for counts in expected.values() for group in counts}
        return {name: dict.fromkeys(groups, 0) | counts for name, counts in expected.items()}

    def _query(self, plan: Planned, row: Row, edit: Edit, name: str) -> Query:
        if plan.image is None:
            return Query.without_picture(plan.question(), name)
        if plan.image == "":
            return query_of(edit, plan.question(), None, name)
        picture = PictureOnDemand(path_inside(self.images, read_text(row, plan.image)))
        return Query(picture, plan.question(), id=name)


def state_answer(question: str, answer: str) -> str:
    """A fact that says an answer; of a sentence that breaks off, the sentence.

    >>> state_answer("Who is it?", "Ada"), state_answer("Ada was born in", "London")
    ("The answer to 'Who is it?' is Ada.", 'Ada was born in London.')
    """
    if question.rstrip().endswith("?"):
        return answer_as_fact(question, answer)
    return f"{question.rstrip()} {answer.rstrip('.')}."


def without_mark(question: str) -> str:
    """A question without the mark of where it is from.

    >>> without_mark("nq question: who wrote it")
    'who wrote it'
    """
    text = question.strip()
    return text[len(_MARK) :].strip() if text.casefold().startswith(_MARK) else text
