"""``reasonedit codebook list``: the edits of a codebook, as a table, as ids or as JSON."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.safe_text import to_safe_text

from .screen import Screen, count_edits, print_json

_console = Screen(highlight=False, soft_wrap=True)


def list_edits(arguments: argparse.Namespace) -> int:
    """Print the edits that count, the newest last; undone ones too where that is wanted."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    every: bool = arguments.all
    events = [event for event in memory.events if every or event.edit_id in memory.edits]
    edits = [event.edit for event in events if event.edit is not None]
    if arguments.json:
        print_json([_as_json(edit, undone=edit.id in memory.undone) for edit in edits])
        return 0
    if arguments.quiet:
        for edit in edits:
            _console.say(edit.id)
        return 0
    if edits:
        Screen(highlight=False).print(_table(edits, memory, every=every))
    undone, erased = len(memory.undone), sum(event.count for event in memory.events)
    also = f", and {undone} undone" if undone else ""
    also += f"; {erased} {'was' if erased == 1 else 'were'} erased" if erased else ""
    _console.say(f"{count_edits(len(memory.edits))} with {len(memory)} keys{also}")
    for edit in memory.edits.values():
        others = [f"{other} ({memory.find(other).answer})" for other in edit.contradicts if other in memory.edits]
        if others:
            _console.say(f"contradiction: {edit.id} ({edit.answer}) and {', '.join(others)}")
    return 0


def _table(edits: Sequence[StoredEdit], memory: EditMemory, *, every: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("id", "time (UTC)", "author", "question", "answer", *(["state"] if every else [])):
        table.add_column(name, overflow="fold" if name in ("question", "answer") else "ellipsis")
    for edit in edits:
        short_id = edit.id if len(edit.id) <= 12 else f"{edit.id[:11]}…"
        cells = [short_id, as_utc(edit.time)[:16].replace("T", " "), edit.author, edit.question, edit.answer]
        if every:
            cells.append("undone" if edit.id in memory.undone else "")
        table.add_row(*(escape(to_safe_text(cell)) for cell in cells))
    return table


def as_utc(time: str) -> str:
    """An edit's time in UTC, as one that was imported may be of another zone; what names no zone stays as it is."""
    with contextlib.suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(time)
        return moment.astimezone(timezone.utc).isoformat() if moment.tzinfo is not None else time
    return time


def _as_json(edit: StoredEdit, *, undone: bool) -> dict[str, Any]:
    return {
        "id": edit.id,
        "time": edit.time,
        "author": edit.author,
        "question": edit.question,
        "answer": edit.answer,
        "reasoning": list(edit.reasoning),
        "contradicts": list(edit.contradicts),
        "undone": undone,
    }
