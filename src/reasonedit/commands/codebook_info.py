"""``reasonedit codebook info``: what a codebook holds, for which VLM it is, and how large it is."""

from __future__ import annotations

import argparse

from reasonedit.codebook import EditMemory, Store

from .codebook_folder import folder_size
from .list_edits import as_utc
from .screen import Screen, print_json

_console = Screen(highlight=False, soft_wrap=True)


def show_codebook(arguments: argparse.Namespace) -> int:
    """Print it, a name and a value on each line, or as JSON."""
    store = Store.open(arguments.codebook, read_only=True)
    memory, manifest = EditMemory.open(store), store.manifest
    files, size = folder_size(arguments.codebook)
    edits = list(memory.edits.values())
    authors = sorted({edit.author for edit in edits if edit.author})
    values = {
        "codebook": str(arguments.codebook),
        "model": manifest.model,
        "created": manifest.created,
        "edits": len(edits),
        "undone": len(memory.undone),
        "keys": len(memory),
        "authors": authors,
        "first_edit": min((as_utc(edit.time) for edit in edits), default=None),
        "last_edit": max((as_utc(edit.time) for edit in edits), default=None),
        "files": files,
        "bytes": size,
    }
    if arguments.json:
        print_json(values)
        return 0
    values |= {"authors": ", ".join(authors) or "not named", "bytes": f"{size} ({size / 2**20:.1f} MiB)"}
    for name, value in values.items():
        if value is not None:
            _console.say(f"{name.replace('_', ' ') + ':':12} {value}")
    return 0
