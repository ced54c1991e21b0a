"""Whether a codebook holds what a run has written so far, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from reasonedit.errors import MismatchError

from .codebook import Codebook


def check_resumable(rows: Sequence[Mapping[str, Any]], codebook: Codebook, log: Path) -> None:
    """Refuse to go on with a codebook that is not as the run left it.

    Args:
        rows: The logs of all ranks, in any order. Each row says what the codebook held when its question was asked.
        codebook: The codebook, as it is now.
        log: The folder of the log.

    Raises:
        MismatchError: The codebook is another one, somebody else has changed it since, or it holds edits whose answers
            are not in the log.
    """
    states = [tuple(row["codebook"]) for row in rows]
    name, generation, count = codebook.state
    book = f"codebook in '{codebook.path}'"
    if count and not rows:
        _refuse(f"The log in '{log}' is gone, and the {book} holds what was learnt from it")
    if states and count < max(state[2] for state in states):
        _refuse(f"The {book} is gone" if not count else f"The {book} has lost edits since the run was cut short")
    for logged_name, logged_generation, _ in states:
        if logged_name and logged_name != name:
            _refuse(f"The {book} is not the one that the run wrote")
        if logged_name and logged_generation != generation:
            _refuse(f"The {book} was repaired, or edits were erased from it, since the run was cut short")
    place_of_edit = {row["edit"]: row["place"] for row in rows if row["phase"] == "edit"}
    last_written = -1
    for event in codebook.memory.events[min((state[2] for state in states), default=0) :]:
        if event.op != "edit":
            author = f"by {event.author} " if event.author else ""
            change = {"undo": "undone", "restore": "restored"}.get(event.op, event.op)
            _refuse(f"The edit '{event.edit_id}' was {change} {author}({event.time}) in the codebook of the run")
        if event.edit_id not in place_of_edit:
            _refuse(
                f"The log in '{log}' does not have the edit '{event.edit_id}' that is in '{codebook.path}': it is not "
                "whole, or somebody else wrote there"
            )
        last_written = max(last_written, place_of_edit[event.edit_id])
    places = {row["place"] for row in rows}
    missing = next((place for place in range(last_written) if place not in places), None)
    if missing is not None:
        _refuse(f"The log in '{log}' lacks the answer to question {missing + 1}, and later ones were learnt from")


def _refuse(reason: str) -> NoReturn:
    raise MismatchError(f"{reason}: the run cannot go on as it would have. Begin a new run.")
