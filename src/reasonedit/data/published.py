"""The probes that RationaleVQA is published with."""

from __future__ import annotations

import logging
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from reasonedit.errors import ReasonEditError
from reasonedit.groups import LABELS
from reasonedit.images import load_image
from reasonedit.types import Edit, Query

from .choices import right_choice
from .pool import text_of, written
from .repository import Repository
from .rows import Row
from .source import Probe

FOLDERS = {"t_gen": "t_gen", "r_gen": "r_gen/qa", "coe_gen": "coe_gen"}
MOST_PARAPHRASES = 5
"""Of a question: so many of the ten that are published are asked by the authors, too."""

_SCENES = 3
_NUMBERED = re.compile(r"\s*\d+[.)]\s*")
_log = logging.getLogger(__name__)

Find = Callable[[str, int], "Path | None"]
"""Finds a picture by its published path, of which at least so many of the last parts must be there."""


@dataclass
class _Tally:
    """What became of a group's rows."""

    probes: int = 0
    bad: list[str] = field(default_factory=list)
    strangers: int = 0
    without: int = 0
    said: Counter[str] = field(default_factory=Counter)

    def sentence(self, group: str) -> str:
        """What is not as one would expect; empty where all is."""
        parts = [f"{what}: {count}" for what, count in sorted(self.said.items())]
        if self.bad:
            parts.append(f"rows that cannot be used: {len(self.bad)} (the first, {self.bad[0].rstrip('.')})")
        if self.strangers:
            parts.append(f"rows that belong to no sample: {self.strangers}")
        if self.without:
            parts.append(f"edits without one: {self.without}")
        return f"{LABELS[group]} has {self.probes} probes; {'; '.join(parts)}." if parts else ""


def name_of(row: Row) -> str:
    """The sample that a row is, or belongs to.

    Raises:
        ReasonEditError: It does not say.
    """
    value = row.values.get("uid", row.values.get("id"))
    if value is None or not str(value).strip():
        raise ReasonEditError("'uid' is missing or empty.")
    return written(value, "uid")


def about(paths: Sequence[str], subset: str, others: Sequence[str]) -> list[str]:
    """Those of some files that are named after a subset, or after none of the others."""
    kept = []
    for path in paths:
        words = re.split(r"[^a-z0-9]+", path.casefold())
        if subset.casefold() in words or not any(other.casefold() in words for other in others):
            kept.append(path)
    return kept


class Published:
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
        find: Find,
        seed: int,
    ) -> None:
        self.files, self.subset, self.coe_model, self.find, self.seed = files, subset.lower(), coe_model, find, seed
        self.paths = paths

    def probes(self, edits: Sequence[Edit], samples: Mapping[str, object]) -> dict[str, list[Probe]]:
        """The probes of edits, by the edits' ids. One warning says what could not be used, and what has no picture."""
        of = {edit.id: edit for edit in edits}
        found: dict[str, list[Probe]] = {}
        told = []
        for group in FOLDERS:
            tally = _Tally()
            paths = self._paths(group, tally)
            for path in paths:
                for row in self.files.rows(path, named=True):
                    try:
                        if row.problem:
                            raise ReasonEditError(row.problem)
                        name = name_of(row)
                        tally.strangers += name not in samples
                        if name in of:
                            self._add(group, row, of[name], found.setdefault(name, []), tally)
                    except ReasonEditError as error:
                        tally.bad.append(f"{row.place}: {error}")
            if paths:
                tally.without = sum(all(p.group != group for p in found.get(name, [])) for name in of)
            told.append(tally.sentence(group))
        if any(told):
            _log.warning("Published probes of '%s'. %s", self.files.root, " ".join(t for t in told if t))
        return found

    def _paths(self, group: str, tally: _Tally) -> Sequence[str]:
        paths = self.paths[group]
        if group != "coe_gen":
            return paths
        models = {path: self._model(path) for path in paths}
        if self.coe_model is not None:
            kept = [path for path, model in models.items() if model.casefold() == self.coe_model.casefold()]
            if len(kept) < len(paths):
                tally.said[f"files left out, as they are not about '{self.coe_model}'"] = len(paths) - len(kept)
            return kept
        if len(set(models.values())) > 1:
            names = ", ".join(sorted(set(models.values())))
            tally.said[f"files left out, as they are about several models ({names}) and coe_model names none"] = len(
                paths
            )
            return []
        return paths

    def _model(self, path: str) -> str:
        """The model in the name of a file: ``{model}_{subset}`` or ``{subset}_{model}``."""
        name = self.subset
        return re.sub(rf"^{name}[_-]|[_-]{name}$|^{name}$", "", PurePosixPath(path).stem, flags=re.IGNORECASE)

    def _add(self, group: str, row: Row, edit: Edit, probes: list[Probe], tally: _Tally) -> None:
        answer, answers, choices = self._right(group, row, edit)
        questions = _questions(group, row, edit)
        pictures = list(self._pictures(group, row, edit, tally))
        for question in questions:
            for picture in pictures:
                if picture is edit.image and question.strip().casefold() == edit.question.casefold():
                    tally.said["left out, as they ask the edit's own question about its own picture"] += 1
                    continue
                number = sum(p.group == group for p in probes)
                query = Query(picture, question, choices, f"{edit.id}-{group}-{number}")
                probes.append(Probe(group, query, answer, edit.id, answers))
                tally.probes += 1

    def _right(self, group: str, row: Row, edit: Edit) -> tuple[str, list[str], list[str] | None]:
        """The right answer, all right ones, and the choices."""
        several = row.values.get("answers")
        if isinstance(several, str) and "|" in several:
            parts = [part.strip() for part in several.split("|")]
            choices = list(parts)
            random.Random(f"{self.seed}-{row.values.get('sid')}-{several}").shuffle(choices)
            return parts[0], [], choices
        if any(row.values.get(name) not in (None, "") for name in ("answer", "choices", "idx_choices")):
            offered, answer = right_choice(row)
            if offered is None and edit.choices and answer.casefold() in [c.casefold() for c in edit.choices]:
                offered = edit.choices
            return answer, [], offered
        if isinstance(several, str) and several.strip():
            return several.strip(), [], None
        if group == "r_gen":
            raise ReasonEditError("'answers' is missing: what is right is not known.")
        return edit.answer, edit.answers, edit.choices

    def _pictures(self, group: str, row: Row, edit: Edit, tally: _Tally) -> Iterator[Image.Image]:
        given: Any = row.values.get("image_path") or row.values.get("image")
        if isinstance(given, dict):
            given = given.get("bytes") or given.get("path")
        if isinstance(given, bytes):
            yield load_image(given)
        elif given is not None:
            path = self.find(written(given, "image_path"), 1)
            if path is None:
                raise ReasonEditError(f"There is no image file '{given}'.")
            yield load_image(path)
        elif group == "t_gen":
            yield edit.image
        elif group == "r_gen":
            painted = self.find(f"r_gen/image/{self.subset}/{row.values.get('sid')}.png", 1)
            if painted is None:
                tally.said["asked about the edit's own picture, as no painted one is there"] += 1
            yield edit.image if painted is None else load_image(painted)
        else:
            folder = f"coe_gen_merge/image/{self.subset}/{self._model(row.file)}/{edit.id}"
            places = [f"{folder}/scenario_{i}.png" for i in range(_SCENES)]
            painted_ones = [path for place in places if (path := self.find(place, 2)) is not None]
            if not painted_ones:
                tally.said["rows left out, as no picture was painted of them"] += 1
            for path in painted_ones:
                yield load_image(path)


def _questions(group: str, row: Row, edit: Edit) -> list[str]:
    told = row.values.get("variants", row.values.get("value"))
    if told is None:
        return [edit.question] if group == "coe_gen" and not row.values.get("question") else [text_of(row, "question")]
    if isinstance(told, str):
        told = [_NUMBERED.sub("", line, count=1) for line in told.splitlines()]
    if not isinstance(told, list) or not all(isinstance(question, str) for question in told):
        raise ReasonEditError("'variants' must be a list of questions.")
    asked = [question for question in told if question.strip()]
    if not asked:
        raise ReasonEditError("'variants' is empty.")
    return asked[:MOST_PARAPHRASES]
