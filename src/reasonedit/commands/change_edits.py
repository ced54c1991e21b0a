"""``reasonedit codebook undo`` and ``restore``: edits taken out of a codebook, and put back."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence

from reasonedit.codebook import EditMemory, Store, StoredEdit

from .edit_ids import find_edit
from .screen import Screen, count_edits

_console = Screen(highlight=False, soft_wrap=True)


def undo_edits(arguments: argparse.Namespace) -> int:
    """Take edits out, and name those that rest on them."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    going = _ids(memory, arguments.id)
    for edit_id in going:
        for other, facts in memory.fact_graph.resting_on(edit_id).items():
            if other not in going:
                _console.say(f"{other} rests on {edit_id}: it leads on to what only this one says: {' '.join(facts)}")
    return _change(arguments, memory, memory.undo, "undone")


def restore_edits(arguments: argparse.Namespace) -> int:
    """Put edits back."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    return _change(arguments, memory, memory.restore, "restored")


def _ids(memory: EditMemory, texts: Sequence[str]) -> list[str]:
    """The ids of edits, each once, however often somebody wrote it."""
    return list(dict.fromkeys(find_edit(memory, text).id for text in texts))


def _change(
    arguments: argparse.Namespace, memory: EditMemory, change: Callable[[str, str], StoredEdit], result: str
) -> int:
    changed = list[StoredEdit]()
    try:
        for edit_id in _ids(memory, arguments.id):  # all are known before one is touched
            changed.append(change(edit_id, arguments.author))
    finally:  # what is printed into a pipe that somebody closed ends the command
        for edit in changed:
            _console.say(f"{result}: {edit.id}  {edit.question}  {edit.answer}")
    memory.settle()
    _console.say(f"{arguments.codebook} holds {count_edits(len(memory.edits))}")
    return 0
