"""What ``reasonedit codebook`` does with edits: it lists, shows, undoes, restores, takes them out and in."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from .author import add_author
from .edit import add_box
from .trust import add_trust

_NO_BACKUP = (
    "It is not a backup: keys, history, undone edits and evidence that was found are not in it; 'reasonedit codebook "
    "backup' copies everything."
)
EDIT_ACTIONS = {
    "list": "list_edits.list_edits",
    "show": "show_edit.show_edit",
    "undo": "change_edits.undo_edits",
    "restore": "change_edits.restore_edits",
    "check": "check_edit.check_edit",
    "replace": "replace.replace_edit",
    "erase": "erase.erase_edits",
    "export": "export_edits.export_edits",
    "import": "import_edits.import_edits",
}
"""What does each action; imported only when it is called."""


def add_edit_actions(add: Callable[..., argparse.ArgumentParser]) -> None:
    """Add the actions on edits to a parser.

    Args:
        add: Adds an action by its name, its help, and what its description says beyond that.
    """

    def add_change(name: str, help: str) -> argparse.ArgumentParser:
        action = add(name, help)
        action.add_argument("id", nargs="+", help="the edits")
        add_author(action)
        return action

    def add_loading(action: argparse.ArgumentParser) -> None:
        action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
        add_trust(action)

    listing = add("list", "all edits, the newest last")
    listing.add_argument("--all", action="store_true", help="show undone edits too")
    shown = listing.add_mutually_exclusive_group()
    shown.add_argument("--quiet", action="store_true", help="print the ids alone, one on a line")
    shown.add_argument("--json", action="store_true", help="print the edits as JSON, for a program")
    show = add("show", "one edit: question, answer, reasoning, evidence, history")
    show.add_argument("id", help="the edit")
    show.add_argument("--image", type=Path, default=None, help="draw picture and evidence into this PNG file")
    add_change("undo", "take edits out; the codebook becomes what the others alone would have made")
    add_change("restore", "put edits back that were undone")
    checking = add("check", "ask an edit that is written whether it holds, and what it harms")
    checking.add_argument("id", help="the edit")
    add_loading(checking)
    replacing = add(
        "replace", "write an edit in the place of one that was wrong", " What is not given is as in the old one."
    )
    replacing.add_argument("id", help="the edit that was wrong")
    replacing.add_argument("--answer", help="the right answer")
    replacing.add_argument("--reasoning", help="why it is right, one fact per sentence")
    replacing.add_argument("--question", help="the question")
    add_box(replacing)
    replacing.add_argument("--check", action="store_true", help="say what it would do, and write nothing")
    add_author(replacing)
    add_loading(replacing)
    erase = add_change("erase", "erase edits for good, with all that was written of them beside the codebook")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    exporting = add(
        "export", "write text and pictures of edits into a JSONL file and a folder beside it", f" {_NO_BACKUP}"
    )
    exporting.add_argument("file", type=Path, help="the file, FILE.jsonl")
    exporting.add_argument("id", nargs="*", help="the edits (default: all that count)")
    importing = add("import", "write the edits of an exported JSONL file into the codebook")
    importing.add_argument("file", type=Path, help="the file, FILE.jsonl")
    add_author(importing, "author of edits that name none")
    add_loading(importing)
