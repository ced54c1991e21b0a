"""Whether a codebook holds what a run learnt, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from reasonedit.errors import ReasonEditError

from .codebook import Codebook


def check(rows: Sequence[Mapping[str, Any]], codebook: Codebook, log: Path) -> None:
    """See that a run can go on with its codebook as if it had not been cut short.

    Args:
        rows: What the log holds of all ranks, in any order. Each row says what the codebook was when it was asked.
        codebook: The codebook, as it is now.
        log: The folder of the log.

    Raises:
        ReasonEditError: The codebook is another one, was changed since by somebody else, or holds edits whose answers
            are not in the log.
    """
    states = [tuple(row["codebook"]) for row in rows]
    name, generation, count = codebook.state
    there = f"The codebook in '{codebook.path}'"
    if count and not rows:
        _refuse(f"The log in '{log}' is gone, and {there[0].lower()}{there[1:]} holds what was learnt from it")
    if states and count < max(state[2] for state in states):
        _refuse(f"{there} is gone" if not count else f"{there} has lost edits since the run was cut short")
    for known, rewritten, _ in states:
        if known and known != name:
            _refuse(f"{there} is not the one that the run wrote")
        if known and rewritten != generation:
            _refuse(f"{there} was repaired, or edits were erased from it, since the run was cut short")
    asked = {row["edit"]: row["place"] for row in rows if row["phase"] == "edit"}
    learnt = -1
    for event in codebook.memory.events[min((state[2] for state in states), default=0) :]:
        who = f"by {event.author} " if event.author else ""
        if event.op != "edit":
            done = {"undo": "undone", "restore": "restored"}.get(event.op, event.op)
            _refuse(f"The edit '{event.edit_id}' was {done} {who}({event.time}) in the codebook of the run")
        if event.edit_id not in asked:
            _refuse(
                f"The log in '{log}' does not have the edit '{event.edit_id}' that is in '{codebook.path}': it is not "
                "whole, or somebody else wrote there"
            )
        learnt = max(learnt, asked[event.edit_id])
    places = {row["place"] for row in rows}
    missing = next((place for place in range(learnt) if place not in places), None)
    if missing is not None:
        _refuse(f"The log in '{log}' lacks the answer to question {missing + 1}, and later ones were learnt from")


def _refuse(what: str) -> NoReturn:
    raise ReasonEditError(f"{what}: the run cannot go on as it would have. Begin a new run.")
