"""``reasonedit codebook import``: the edits of a file, written into a codebook."""

from __future__ import annotations

import argparse
from dataclasses import replace

from reasonedit.codebook import Store, StoredEdit
from reasonedit.data.exported import compare, describe_lost, load_edits, read
from reasonedit.editor import ReasonEditor
from reasonedit.errors import ReasonEditError

from .called import command_line
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
    with waiting("loading the VLM"):
        editor = ReasonEditor.load(codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code)
    compared = compare(rows, editor.memory, f"'{file}'")
    count, warnings = 0, list[str]()
    try:
        with counting() as bar:
            for edit in bar.track(load_edits(file, compared.new), len(compared.new), description="writing edits"):
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
    also = f", {len(compared.there)} were there already" if compared.there else ""
    _console.say(f"{count_edits(count)} written{also}; {codebook} holds {count_edits(len(editor.edits))}")
    if compared.undone:
        again = command_line("reasonedit", "codebook", "restore", str(codebook), *compared.undone)
        are = "is" if len(compared.undone) == 1 else "are"
        _console.say(f"{count_edits(len(compared.undone))} of the file {are} there, but undone: {again}")
    return 0


def _describe(edit: StoredEdit) -> str:
    return f"'{edit.id}' ({edit.answer})"
