"""Probe sets that ``reasonedit build-probes`` wrote: how they are kept, and how a stream reads them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError
from reasonedit.groups import GENERALITIES
from reasonedit.images import inside, load_image
from reasonedit.types import Edit, Query

from .rows import read_rows
from .source import Probe

_PROBE = {"question", "answer", "choices", "image"}
_log = logging.getLogger(__name__)


@dataclass
class Built:
    """One line of a probe set: a probe, or why there is none.

    Attributes:
        edit: Id of the edit.
        question: What the edit's answer was asked by, so that a line of other data is not taken for one of these.
        number: Which of the edit's probes of the group.
        probe: ``question``, ``answer``, ``choices`` and ``image`` (a file beside the set; null: the edit's own image).
        rejected: Why nothing that was made could be used; empty where something could.
        made_by: Provenance: models, prompts, seeds, attempts.
    """

    edit: str
    question: str
    number: int
    probe: dict[str, Any] | None
    rejected: str
    made_by: dict[str, Any]

    def line(self) -> str:
        """The line of the file."""
        return json.dumps(asdict(self), ensure_ascii=False) + "\n"


def set_file(folder: Path, group: str, seed: int) -> Path:
    """The file of a group's probe set."""
    return folder / f"{group}-{seed}.jsonl"


def read_set(path: Path) -> list[Built]:
    """The lines of a probe set. A last line that was cut short, as by an interruption, is left out.

    Raises:
        ReasonEditError: The file is damaged.
    """
    if not path.exists():
        return []
    rows = list(read_rows(path))
    if rows and rows[-1].problem:
        rows.pop()
    found = []
    for row in rows:
        try:
            if row.problem:
                raise TypeError(row.problem)
            found.append(_checked(Built(**row.values)))
        except TypeError as error:
            raise ReasonEditError(
                f"Line {row.number} of the probe set '{path}' is damaged ({error}): take it out and build again."
            ) from error
    return found


def _checked(built: Built) -> Built:
    """A line as it should be.

    Raises:
        TypeError: It is not.
    """
    if not all(isinstance(text, str) for text in (built.edit, built.question, built.rejected)):
        raise TypeError("a text of it is none")
    if built.probe is not None and (not isinstance(built.probe, dict) or set(built.probe) != _PROBE):
        raise TypeError(f"its probe must have {', '.join(sorted(_PROBE))}")
    if built.probe is not None and not isinstance(built.probe["answer"], str):
        raise TypeError("its answer is no text")
    return built


def built_probes(folder: Path, seed: int, edits: Sequence[Edit]) -> Mapping[str, list[Probe]]:
    """The probes that were built for edits, by the edits' ids. A warning says how many edits have none in a set.

    Raises:
        ReasonEditError: There is no set of this seed, it is damaged, or a probe of it cannot be used.
    """
    of = {e.id: e for e in edits}
    found: dict[str, list[Probe]] = {}
    there = [group for group in GENERALITIES if set_file(folder, group, seed).exists()]
    if not there:
        raise ReasonEditError(f"There is no probe set of seed {seed} in '{folder}': run 'reasonedit build-probes'.")
    for group in there:
        file, missing, others = set_file(folder, group, seed), set(of), 0
        for built in read_set(file):
            edit = of.get(built.edit)
            if edit is None:
                continue
            if edit.question != built.question:
                others += 1
            elif built.probe is not None:
                try:
                    found.setdefault(edit.id, []).append(_probe(group, built, built.probe, edit, folder))
                except ReasonEditError as error:
                    raise ReasonEditError(
                        f"Probe {built.number} of the edit '{edit.id}' in '{file}' cannot be used: {error}"
                    ) from error
                missing.discard(edit.id)
        if missing or others:
            more = f"; {others} of its lines are about other questions of edits with the same ids" if others else ""
            _log.warning("%d of %d edits have no probe in '%s'%s.", len(missing), len(of), file, more)
    return found


def _probe(group: str, built: Built, values: Mapping[str, Any], edit: Edit, folder: Path) -> Probe:
    image = edit.image if values["image"] is None else load_image(inside(folder, str(values["image"])))
    query = Query(image, values["question"], values["choices"], f"{edit.id}-{group}-{built.number}")
    same = group != "r_gen" and values["answer"] == edit.answer  # the edit's own question, or its paraphrase
    return Probe(group, query, values["answer"], edit.id, edit.answers if same else [])
