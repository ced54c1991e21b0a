"""Probe sets that ``reasonedit build-probes`` wrote: how they are stored, and how a stream reads them."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasonedit.errors import InputError, NotFoundError, ReasonEditError
from reasonedit.groups import GENERALITIES
from reasonedit.images import PictureOnDemand, path_inside
from reasonedit.matching import matches
from reasonedit.types import Edit, Query

from .rows import read_rows
from .sample import query_of
from .source import Probe

_PROBE_FIELDS = {"question", "answer", "choices", "image"}
_OF_THE_EDIT = ("t_gen", "i_gen", "coe_gen")
"""Groups whose probes have the edit's own answer and choices."""

_log = logging.getLogger(__name__)


@dataclass
class ProbeLine:
    """One line of a probe set: a probe, or why there is none.

    Attributes:
        edit: Id of the edit.
        question: The edit's own question, so that a line about other data is not taken for one about this edit.
        number: Which of the edit's probes of the group.
        probe: ``question``, ``answer``, ``choices`` and ``image`` (a file beside the set; null: the edit's own image).
        rejected: Why no try could be used; empty where one could.
        made_by: Provenance: models, prompts, seeds, attempts.
    """

    edit: str
    question: str
    number: int
    probe: dict[str, Any] | None
    rejected: str
    made_by: dict[str, Any]

    def to_json(self) -> str:
        """The line of the file."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"

    def is_about(self, edit: Edit, group: str) -> bool:
        """Whether it was made for an edit as it is now: its question, and its answer and choices where it has those.

        Args:
            edit: The edit.
            group: The group of the probe set.
        """
        if (self.edit, self.question) != (edit.id, edit.question):
            return False
        if group not in _OF_THE_EDIT or self.probe is None:
            return True
        return (self.probe["choices"] or None) == edit.choices and matches(self.probe["answer"], edit.targets)


def probe_file(folder: Path, group: str, seed: int) -> Path:
    """The file of a group's probe set."""
    return folder / f"{group}-{seed}.jsonl"


def read_probe_lines(path: Path) -> list[ProbeLine]:
    """The lines of a probe set. A last line that was cut short, as by an interruption, is left out.

    Raises:
        InputError: The file is damaged.
    """
    if not path.exists():
        return []
    rows = list(read_rows(path))
    if rows and rows[-1].problem:
        rows.pop()
    lines = []
    for row in rows:
        try:
            if row.problem:
                raise TypeError(row.problem)
            line = ProbeLine(**row.values)
            _check_line(line)
        except TypeError as error:
            raise InputError(
                f"Line {row.number} of the probe set '{path}' is damaged ({error}): take it out and build again."
            ) from error
        lines.append(line)
    return lines


def _check_line(line: ProbeLine) -> None:
    """Make sure that a line holds what it should.

    Raises:
        TypeError: It does not.
    """
    if not all(isinstance(text, str) for text in (line.edit, line.question, line.rejected)):
        raise TypeError("'edit', 'question' and 'rejected' must be texts")
    if not isinstance(line.made_by, dict):
        raise TypeError("'made_by' must be an object")
    if line.probe is not None and (not isinstance(line.probe, dict) or set(line.probe) != _PROBE_FIELDS):
        raise TypeError(f"its probe must have {', '.join(sorted(_PROBE_FIELDS))}")
    if line.probe is not None and not isinstance(line.probe["answer"], str):
        raise TypeError("its answer is not text")


def load_built_probes(folder: Path, seed: int, edits: Sequence[Edit]) -> dict[str, list[Probe]]:
    """The probes that were built for edits. A warning says how many edits have none in a set.

    Args:
        folder: The folder of the probe sets.
        seed: Which of the sets, where there are several.
        edits: The edits.

    Returns:
        The probes by the edits' ids.

    Raises:
        NotFoundError: There is no set of this seed.
        InputError: A set is damaged, or a probe of it cannot be used.
    """
    by_id = {edit.id: edit for edit in edits}
    probes: dict[str, list[Probe]] = {}
    groups = [group for group in GENERALITIES if probe_file(folder, group, seed).exists()]
    if not groups:
        raise NotFoundError(f"There is no probe set of seed {seed} in '{folder}': run 'reasonedit build-probes'.")
    for group in groups:
        file, missing, others = probe_file(folder, group, seed), set(by_id), 0
        for line in read_probe_lines(file):
            edit = by_id.get(line.edit)
            if edit is None:
                continue
            if not line.is_about(edit, group):
                others += 1
            elif line.probe is not None:
                try:
                    probes.setdefault(edit.id, []).append(_make_probe(group, line, line.probe, edit, folder))
                except ReasonEditError as error:
                    raise InputError(
                        f"Probe {line.number} of the edit '{edit.id}' in '{file}' cannot be used: {error}"
                    ) from error
                missing.discard(edit.id)
        if missing or others:
            about = "other questions, answers or choices of edits with the same ids"
            more = f"; {others} of its lines are about {about}" if others else ""
            _log.warning("%d of %d edits have no probe in '%s'%s.", len(missing), len(by_id), file, more)
    return probes


def count_built_probes(folder: Path, seed: int, edits: Sequence[Edit]) -> dict[str, dict[str, int]]:
    """How many probes of each set there should be for each edit: one for each line about it, and one at least.

    Args:
        folder: The folder of the probe sets.
        seed: Which of the sets, where there are several.
        edits: The edits.
    """
    by_id = {edit.id: edit for edit in edits}
    counts: dict[str, dict[str, int]] = {name: {} for name in by_id}
    for group in GENERALITIES:
        if probe_file(folder, group, seed).exists():
            lines = read_probe_lines(probe_file(folder, group, seed))
            about = Counter(b.edit for b in lines if b.edit in by_id and b.is_about(by_id[b.edit], group))
            for name, of_edit in counts.items():
                of_edit[group] = max(1, about[name])
    return counts


def _make_probe(group: str, line: ProbeLine, values: Mapping[str, Any], edit: Edit, folder: Path) -> Probe:
    asked = values["question"], values["choices"], f"{edit.id}-{group}-{line.number}"
    if values["image"] is None:
        query = query_of(edit, *asked)
    else:
        query = Query(PictureOnDemand(path_inside(folder, str(values["image"]))), *asked)
    same_answer = group != "r_gen" and values["answer"] == edit.answer  # the edit's own question, or its paraphrase
    return Probe(group, query, values["answer"], edit.id, edit.answers if same_answer else [])
