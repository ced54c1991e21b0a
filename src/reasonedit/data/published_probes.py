"""The probes that RationaleVQA is published with."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from reasonedit.errors import InputError, NotFoundError, ReasonEditError
from reasonedit.groups import LABELS
from reasonedit.images import PictureOnDemand
from reasonedit.types import Edit, Query

from .columns import as_text
from .published_rows import read_answers, read_questions, sample_id
from .repository import Repository
from .rows import Row
from .sample import query_of
from .source import Probe

FOLDERS = {"t_gen": "t_gen", "r_gen": "r_gen/qa", "coe_gen": "coe_gen"}
_SCENES = 3
_log = logging.getLogger(__name__)

FindPicture = Callable[[str, int], "Path | None"]
"""Finds a picture by its published path, of which at least so many of the last parts must be there."""


@dataclass
class _Tally:
    """What became of a group's rows.

    Attributes:
        probes: How many probes they gave.
        bad: Why rows cannot be used.
        strangers: How many rows belong to no sample.
        edits_without: How many edits have no probe.
        remarks: What else happened, with how often it did.
        painted: The folders of painted pictures that were asked about, each with the row's own question.
    """

    probes: int = 0
    bad: list[str] = field(default_factory=list)
    strangers: int = 0
    edits_without: int = 0
    remarks: Counter[str] = field(default_factory=Counter)
    painted: set[tuple[str, str]] = field(default_factory=set)

    def sentence(self, group: str) -> str:
        """What is not as one would expect; empty where all is."""
        parts = [f"{what}: {count}" for what, count in sorted(self.remarks.items())]
        if self.bad:
            parts.append(f"rows that cannot be used: {len(self.bad)} (the first, {self.bad[0].rstrip('.')})")
        if self.strangers:
            parts.append(f"rows that belong to no sample: {self.strangers}")
        if self.edits_without:
            parts.append(f"edits without one: {self.edits_without}")
        return f"{LABELS[group]} has {self.probes} probes; {'; '.join(parts)}." if parts else ""


class PublishedProbes:
    """The published probes of a subset.

    Args:
        files: The data set's files.
        paths: For each group its files.
        subset: The subset's name.
        coe_model: Whose errors the CoE probes are about, as their files are called; needed where there are several.
        find: Finds pictures.
        seed: Seed of the order of choices: in the files of R-Gen the right answer is always the first.
    """

    def __init__(
        self,
        files: Repository,
        paths: Mapping[str, Sequence[str]],
        subset: str,
        coe_model: str | None,
        find: FindPicture,
        seed: int,
    ) -> None:
        self.files, self.subset, self.coe_model, self.find, self.seed = files, subset.lower(), coe_model, find, seed
        self.paths = paths

    def load(self, edits: Sequence[Edit], samples: Mapping[str, object]) -> dict[str, list[Probe]]:
        """The probes of edits. One warning says what cannot be used, and what has no picture.

        Args:
            edits: The edits.
            samples: All samples by their ids.

        Returns:
            The probes by the edits' ids.
        """
        by_id = {edit.id: edit for edit in edits}
        probes: dict[str, list[Probe]] = {}
        remarks = []
        for group in FOLDERS:
            tally = _Tally()
            paths = self._files_of(group, tally)
            for row in self._rows(paths):
                try:
                    name = _sample_of(row)
                    tally.strangers += name not in samples
                    if name in by_id:
                        self._add(group, row, by_id[name], probes.setdefault(name, []), tally)
                except ReasonEditError as error:
                    tally.bad.append(f"{row.place}: {error}")
            if paths:
                tally.edits_without = sum(all(p.group != group for p in probes.get(name, [])) for name in by_id)
            remarks.append(tally.sentence(group))
        if any(remarks):
            _log.warning("Published probes of '%s'. %s", self.files.root, " ".join(filter(None, remarks)))
        return probes

    def problems(self, edits: Sequence[Edit]) -> Iterator[tuple[int, str]]:
        """The rows that cannot be used, by their numbers, and why; nothing of the others is kept."""
        by_id = {edit.id: edit for edit in edits}
        for group in FOLDERS:
            tally = _Tally()
            for row in self._rows(self._files_of(group, tally)):
                try:
                    name = _sample_of(row)
                    if name in by_id:
                        self._add(group, row, by_id[name], [], tally)
                except ReasonEditError as error:
                    yield row.number, f"'{row.file}': {error}"

    def _rows(self, paths: Sequence[str]) -> Iterator[Row]:
        for path in paths:
            yield from self.files.rows(path, named=True)

    def _files_of(self, group: str, tally: _Tally) -> Sequence[str]:
        """The files of a group; of CoE-Gen those about the errors of one model."""
        paths = self.paths[group]
        if group != "coe_gen":
            return paths
        models = {path: self._model(path) for path in paths}
        if self.coe_model is not None:
            of_model = [path for path, model in models.items() if model.casefold() == self.coe_model.casefold()]
            if len(of_model) < len(paths):
                tally.remarks[f"files left out, as they are not about '{self.coe_model}'"] = len(paths) - len(of_model)
            return of_model
        if len(set(models.values())) > 1:
            names = ", ".join(sorted(set(models.values())))
            remark = f"files left out, as they are about several models ({names}) and coe_model names none"
            tally.remarks[remark] = len(paths)
            return []
        return paths

    def _model(self, path: str) -> str:
        """The model in the name of a file: ``{model}_{subset}`` or ``{subset}_{model}``."""
        name = self.subset
        return re.sub(rf"^{name}[_-]|[_-]{name}$|^{name}$", "", PurePosixPath(path).stem, flags=re.IGNORECASE)

    def _add(self, group: str, row: Row, edit: Edit, probes: list[Probe], tally: _Tally) -> None:
        answer, answers, choices = read_answers(group, row, edit, self.seed)
        questions = read_questions(group, row, edit)
        pictures = list(self._pictures(group, row, edit, tally))
        for question in questions:
            for picture in pictures:
                if picture is edit.image and question.strip().casefold() == edit.question.casefold():
                    tally.remarks["left out, as they ask the edit's own question about its own picture"] += 1
                    continue
                number = sum(p.group == group for p in probes)
                name = f"{edit.id}-{group}-{number}"
                own = picture is edit.image
                query = query_of(edit, question, choices, name) if own else Query(picture, question, choices, name)
                probes.append(Probe(group, query, answer, edit.id, answers))
                tally.probes += 1

    def _pictures(self, group: str, row: Row, edit: Edit, tally: _Tally) -> Iterator[Image.Image]:
        """The pictures that a row's questions are asked about: its own, painted ones, or the edit's."""
        given: Any = row.values.get("image_path") or row.values.get("image")
        if isinstance(given, dict):
            given = given.get("bytes") or given.get("path")
        if isinstance(given, bytes):
            yield PictureOnDemand(given)
        elif given is not None:
            path = self.find(as_text(given, "image_path"), 1)
            if path is None:
                raise NotFoundError(f"There is no image file '{given}'.")
            yield PictureOnDemand(path)
        elif group == "t_gen":
            yield edit.image
        elif group == "r_gen":
            painted = self.find(f"r_gen/image/{self.subset}/{row.values.get('sid')}.png", 1)
            if painted is None:
                tally.remarks["asked about the edit's own picture, as no painted one is there"] += 1
            yield edit.image if painted is None else PictureOnDemand(painted)
        else:
            folder = f"coe_gen_merge/image/{self.subset}/{self._model(row.file)}/{edit.id}"
            asked = folder, str(row.values.get("question") or "")
            if asked in tally.painted:  # a sample has a row for each of its errors, and the pictures once
                return
            tally.painted.add(asked)
            places = [f"{folder}/scenario_{i}.png" for i in range(_SCENES)]
            scenes = [path for place in places if (path := self.find(place, 2)) is not None]
            if not scenes:
                tally.remarks["rows left out, as no picture was painted of them"] += 1
            for path in scenes:
                yield PictureOnDemand(path)


def _sample_of(row: Row) -> str:
    """The sample that a row belongs to."""
    if row.problem:
        raise InputError(row.problem)
    return sample_id(row)
