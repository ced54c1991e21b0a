"""``reasonedit codebook export``: text and pictures of edits, written into a file and a folder beside it."""

from __future__ import annotations

import argparse

from reasonedit.codebook import EditMemory, Store
from reasonedit.data.exported import export

from .edit_ids import find_edit
from .screen import Screen, count_edits

_console = Screen(highlight=False, soft_wrap=True)


def export_edits(arguments: argparse.Namespace) -> int:
    """Write them."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    ids = [find_edit(memory, text).id for text in arguments.id]
    count = export(memory, arguments.file, ids)
    _console.say(f"{count_edits(count)} written to {arguments.file}")
    undone = [name for name in dict.fromkeys(ids) if name in memory.undone]
    if undone:
        _console.say(f"undone here, but not where the file is imported: {', '.join(undone)}")
    return 0
