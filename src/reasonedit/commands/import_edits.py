"""``reasonedit codebook import``: the edits of a file, written into a codebook."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import replace
from pathlib import Path

from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.data.exported import CheckedRow, describe_lost, load_edits, read
from reasonedit.editor import ReasonEditor
from reasonedit.errors import ConflictError, InputError, ReasonEditError

from .screen import Screen, count_edits, counting, waiting

_console = Screen(highlight=False, soft_wrap=True)


def import_edits(arguments: argparse.Namespace) -> int:
    """Write the edits that are not there yet.

    Raises:
        ReasonEditError: A row cannot be used, or an edit cannot be written; says how many were before that.
    """
    codebook, file = arguments.codebook, arguments.file
    Store.open(codebook)  # refused before anything is read
    rows = list(read(file))  # all of them, before the first is written
    twice = next((name for name, count in Counter(row.id for row in rows).items() if count > 1), None)
    if twice is not None:
        raise InputError(f"'{file}' has two edits called '{twice}': give one of them another id.")
    with waiting("loading the VLM"):
        editor = ReasonEditor.load(codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code)
    new = [row for row in rows if not _is_there(row, editor.memory, file)]
    count, warnings = 0, list[str]()
    try:
        with counting() as bar:
            for edit in bar.track(load_edits(file, new), len(new), description="writing edits"):
                written = editor.write(edit if edit.author else replace(edit, author=arguments.author)).edit
                count += 1
                warnings += [
                    f"warning: {_describe(written)} contradicts {_describe(editor.memory.find(other))}"
                    for other in written.contradicts
                ]
    except ReasonEditError as error:
        raise ReasonEditError(
            f"{error} Before that {count_edits(count)} had been written: import the file again to write the others."
        ) from error
    for warning in warnings:
        _console.say(warning)
    for lost in describe_lost(file):
        _console.say(f"passed over: {lost}")
    editor.memory.settle()
    also = f", {len(rows) - len(new)} were there already" if len(new) < len(rows) else ""
    _console.say(f"{count_edits(count)} written{also}; {codebook} holds {count_edits(len(editor.edits))}")
    return 0


def _is_there(row: CheckedRow, memory: EditMemory, file: Path) -> bool:
    """Whether the codebook has an edit already.

    Raises:
        ConflictError: It has another of that id.
    """
    edit = memory.edits.get(row.id) or memory.undone.get(row.id)
    if edit is None:
        return False
    if any(getattr(edit, name) != getattr(row, name) for name in ("question", "answer", "reasoning", "answers")):
        raise ConflictError(f"There is another edit '{row.id}' in the codebook: give the one in '{file}' another id.")
    return True


def _describe(edit: StoredEdit) -> str:
    return f"'{edit.id}' ({edit.answer})"
