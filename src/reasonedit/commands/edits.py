"""``reasonedit edits``: the edits of a codebook, listed, looked at, undone, restored, taken out and in."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.codebook.disk.lock import login_name
from reasonedit.data.exported import export
from reasonedit.editor import ReasonEditor
from reasonedit.safe_text import to_safe_text

from .edit import add_box
from .erase import erase_edits
from .import_edits import import_edits
from .replace import replace_edit
from .screen import Screen, count_edits
from .show_check import show_check
from .show_edit import show_edit
from .trust import add_trust

_console = Screen(highlight=False, soft_wrap=True)
_NO_BACKUP = (
    "It is not a backup: keys, history, undone edits and evidence that was found are not in it; 'reasonedit codebook "
    "backup' copies everything."
)


def main(argv: Sequence[str]) -> int:
    """Do one of these things to the edits of a codebook."""
    arguments = _parser().parse_args(argv)
    actions: dict[str, Callable[[argparse.Namespace], int]] = {
        "list": _list,
        "show": show_edit,
        "undo": _undo,
        "restore": _restore,
        "check": _check,
        "replace": replace_edit,
        "erase": erase_edits,
        "export": _export,
        "import": import_edits,
    }
    return actions[arguments.action](arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit edits",
        description="The edits of a codebook. An ID may be cut short where it still tells one edit from the others.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str, more: str = "") -> argparse.ArgumentParser:
        action = actions.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.{more}")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        return action

    def add_change(name: str, help: str) -> argparse.ArgumentParser:
        action = add(name, help)
        action.add_argument("id", nargs="+", help="the edits")
        action.add_argument("--author", default=login_name(), help="who does it (default: %(default)s)")
        return action

    def add_loading(action: argparse.ArgumentParser) -> None:
        action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
        add_trust(action)

    listing = add("list", "all edits, the newest last")
    listing.add_argument("--all", action="store_true", help="show undone edits too")
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
    replacing.add_argument("--author", default=login_name(), help="who does it (default: %(default)s)")
    add_loading(replacing)
    erase = add_change("erase", "erase edits for good, with all that was written of them beside the codebook")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    exporting = add(
        "export", "write text and pictures of edits into a JSONL file and a folder beside it", f" {_NO_BACKUP}"
    )
    exporting.add_argument("file", type=Path, help="the file, FILE.jsonl")
    exporting.add_argument("id", nargs="*", help="the edits (default: all that count)")
    importing = add("import", "write the edits of such a file into the codebook")
    importing.add_argument("file", type=Path, help="the file, FILE.jsonl")
    importing.add_argument(
        "--author", default=login_name(), help="author of edits that name none (default: %(default)s)"
    )
    add_loading(importing)
    return parser


def _list(arguments: argparse.Namespace) -> int:
    memory = EditMemory.open(Store.open(arguments.codebook))
    every: bool = arguments.all
    events = [event for event in memory.events if every or event.edit_id in memory.edits]
    edits = [event.edit for event in events if event.edit is not None]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("id", "when (UTC)", "who", "question", "answer", *(["state"] if every else [])):
        table.add_column(name, overflow="fold" if name in ("question", "answer") else "ellipsis")
    for edit in edits:
        short_id = edit.id if len(edit.id) <= 12 else f"{edit.id[:11]}…"
        cells = [short_id, edit.time[:16].replace("T", " "), edit.author, edit.question, edit.answer]
        if every:
            cells.append("undone" if edit.id in memory.undone else "")
        table.add_row(*(escape(to_safe_text(cell)) for cell in cells))
    if edits:
        Screen(highlight=False).print(table)
    undone, erased = len(memory.undone), sum(event.count for event in memory.events)
    also = f", and {undone} undone" if undone else ""
    also += f"; {erased} {'was' if erased == 1 else 'were'} erased" if erased else ""
    _console.say(f"{count_edits(len(memory.edits))} with {len(memory)} keys{also}")
    for edit in memory.edits.values():
        others = [f"{other} ({memory.find(other).answer})" for other in edit.contradicts if other in memory.edits]
        if others:
            _console.say(f"contradiction: {edit.id} ({edit.answer}) and {', '.join(others)}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    edit_id = EditMemory.open(Store.open(arguments.codebook)).find(arguments.id).id  # before the model is loaded
    with _console.status("loading the VLM"):
        editor = ReasonEditor.load(
            arguments.codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
        )
    show_check(editor.check_edit(edit_id))
    return 0


def _undo(arguments: argparse.Namespace) -> int:
    memory = EditMemory.open(Store.open(arguments.codebook))
    going = [memory.find(name).id for name in arguments.id]
    for edit_id in going:
        for other, facts in memory.fact_graph.resting_on(edit_id).items():
            if other not in going:
                _console.say(f"{other} rests on {edit_id}: it leads on to what only this one says: {' '.join(facts)}")
    return _change(arguments, memory, memory.undo, "undone")


def _restore(arguments: argparse.Namespace) -> int:
    memory = EditMemory.open(Store.open(arguments.codebook))
    return _change(arguments, memory, memory.restore, "restored")


def _change(
    arguments: argparse.Namespace, memory: EditMemory, change: Callable[[str, str], StoredEdit], result: str
) -> int:
    for edit_id in [memory.find(name).id for name in arguments.id]:  # all are known before one is touched
        edit = change(edit_id, arguments.author)
        _console.say(f"{result}: {edit.id}  {edit.question}  {edit.answer}")
    memory.settle()
    _console.say(f"{arguments.codebook} holds {count_edits(len(memory.edits))}")
    return 0


def _export(arguments: argparse.Namespace) -> int:
    memory = EditMemory.open(Store.open(arguments.codebook))
    count = export(memory, arguments.file, arguments.id)
    _console.say(f"{count_edits(count)} written to {arguments.file}")
    return 0
