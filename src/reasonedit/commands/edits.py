"""``reasonedit edits``: the edits of a codebook, listed, looked at, undone, restored, taken out and in."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.codebook.disk.lock import login_name
from reasonedit.data.exported import CheckedRow, describe_lost, export, load_edits, read
from reasonedit.errors import ReasonEditError
from reasonedit.shown import plain

from .erase import erase_edits
from .screen import Screen
from .trust import add_trust

_console = Screen(highlight=False, soft_wrap=True)
_NO_BACKUP = (
    "It is no backup: keys, history, undone edits and evidence that was found are not in it; 'reasonedit codebook "
    "backup' copies everything."
)


def main(argv: Sequence[str]) -> int:
    """Run one of them."""
    parser = argparse.ArgumentParser(
        prog="reasonedit edits",
        description="The edits of a codebook. An ID may be cut short where it still tells one edit from the others.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("list", "all edits, the newest last"),
        ("show", "one edit: question, answer, reasoning, evidence, history"),
        ("undo", "take edits out; the codebook becomes what the others alone would have made"),
        ("restore", "put edits back that were undone"),
        ("erase", "erase edits for good, with all that was written of them beside the codebook"),
        ("export", "write text and pictures of edits into a JSONL file and a folder beside it"),
        ("import", "write the edits of such a file into the codebook"),
    ):
        more = f" {_NO_BACKUP}" if name == "export" else ""
        action = actions.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.{more}")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        if name == "list":
            action.add_argument("--all", action="store_true", help="show undone edits too")
        if name == "show":
            action.add_argument("id", help="the edit")
            action.add_argument("--image", type=Path, default=None, help="draw picture and evidence into this PNG file")
        if name in ("undo", "restore", "erase"):
            action.add_argument("id", nargs="+", help="the edits")
            action.add_argument("--author", default=login_name(), help="who does it (default: %(default)s)")
        if name == "erase":
            action.add_argument("--yes", action="store_true", help="do not ask")
        if name in ("export", "import"):
            action.add_argument("file", type=Path, help="the file, FILE.jsonl")
        if name == "export":
            action.add_argument("id", nargs="*", help="the edits (default: all that count)")
        if name == "import":
            action.add_argument(
                "--author", default=login_name(), help="author of edits that name none (default: %(default)s)"
            )
            action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
            add_trust(action)
    given = parser.parse_args(argv)
    if given.action == "import":
        return _import(given)
    if given.action == "erase":
        return erase_edits(given)
    memory = EditMemory.open(Store.open(given.codebook))
    if given.action == "list":
        _list(memory, every=given.all)
    elif given.action == "show":
        _show(memory, memory.find(given.id), given.image)
    elif given.action == "export":
        count = export(memory, given.file, given.id)
        _line(f"{_edits(count)} written to {given.file}")
    else:
        for name in [memory.find(name).id for name in given.id]:  # all are known before one is touched
            edit = (memory.undo if given.action == "undo" else memory.restore)(name, given.author)
            done = "undone" if given.action == "undo" else "restored"
            _line(f"{done}: {edit.id}  {edit.question}  {edit.answer}")
        memory.settle()
        _line(f"{given.codebook} holds {_edits(len(memory.edits))}")
    return 0


def _edits(count: int) -> str:
    return f"{count} {'edit' if count == 1 else 'edits'}"


def _list(memory: EditMemory, *, every: bool) -> None:
    shown = [e.edit for e in memory.events if e.edit is not None and (every or e.edit_id in memory.edits)]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("id", "when (UTC)", "who", "question", "answer", *(["state"] if every else [])):
        table.add_column(name, overflow="fold" if name in ("question", "answer") else "ellipsis")
    for edit in shown:
        short = edit.id if len(edit.id) <= 12 else f"{edit.id[:11]}…"
        cells = [short, edit.time[:16].replace("T", " "), edit.author, edit.question, edit.answer]
        if every:
            cells.append("undone" if edit.id in memory.undone else "")
        table.add_row(*(escape(plain(c)) for c in cells))
    if shown:
        Screen(highlight=False).print(table)
    undone = len(memory.undone)
    also = f", and {undone} undone" if undone else ""
    erased = sum(e.count for e in memory.events)
    also += f"; {erased} {'was' if erased == 1 else 'were'} erased" if erased else ""
    _line(f"{_edits(len(memory.edits))} with {len(memory)} keys{also}")
    against = [e for e in memory.edits.values() if any(other in memory.edits for other in e.contradicts)]
    for edit in against:
        others = ", ".join(f"{o} ({memory.find(o).answer})" for o in edit.contradicts if o in memory.edits)
        _line(f"contradiction: {edit.id} ({edit.answer}) and {others}")


def _show(memory: EditMemory, edit: StoredEdit, image: Path | None) -> None:
    def say(name: str, text: str) -> None:
        _line(f"{name + ':' if name else '':10} {text}")

    say("id", edit.id + (" (undone)" if edit.id in memory.undone else ""))
    say("question", edit.question)
    if edit.choices:
        say("choices", ", ".join(edit.choices))
    say("answer", edit.answer)
    if edit.answers:
        say("also", ", ".join(dict.fromkeys(a for a in edit.answers if a != edit.answer)))
    for i, sentence in enumerate(edit.reasoning):
        given = edit.given[i] if i < len(edit.given) else []
        found = edit.found[i] if i < len(edit.found) else []
        how = "given" if given else "guessed" if i < len(edit.guessed) and edit.guessed[i] else "found"
        places = ["a picture" if isinstance(r, str) else " ".join(f"{x:.2f}" for x in r) for r in given or found]
        say("because" if i == 0 else "", f"{sentence}  ({how + ': ' + '; '.join(places) if places else 'nowhere'})")
    entries = memory.entries_of(edit.id)
    kinds = {kind: sum(e.fact.kind is kind for e in entries) for kind in dict.fromkeys(e.fact.kind for e in entries)}
    say("keys", ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "none")
    if edit.contradicts:
        say("against", ", ".join(f"{o} ({memory.find(o).answer})" for o in edit.contradicts))
    for event in [e for e in memory.events if e.edit_id == edit.id]:
        done = {"edit": "written", "undo": "undone", "restore": "restored"}[event.op]
        who = f" by {event.author}" if event.author else ""
        say("history" if event.op == "edit" else "", f"{done} {event.time}{who}, version {event.version}")
    if image is not None:
        from reasonedit.codebook import as_edit
        from reasonedit.drawings import draw_evidence

        whole = as_edit(edit, {name: memory.picture(name) for name in edit.pictures})
        boxes = [[r for r in (g or f) if not isinstance(r, str)] for g, f in zip(edit.given, edit.found, strict=False)]
        image.parent.mkdir(parents=True, exist_ok=True)
        draw_evidence(whole, boxes).save(image)
        say("picture", str(image))


def _import(given: argparse.Namespace) -> int:
    from dataclasses import replace

    from rich.progress import track

    from reasonedit.editor import ReasonEditor

    Store.open(given.codebook)  # refused before anything is read
    rows = list(read(given.file))  # all of them, before the first is written
    twice = next((name for name, count in Counter(row.id for row in rows).items() if count > 1), None)
    if twice is not None:
        raise ReasonEditError(f"'{given.file}' has two edits called '{twice}': give one of them another id.")
    with _console.status("loading the VLM"):
        editor = ReasonEditor.load(given.codebook, dtype=given.dtype, trust_remote_code=given.trust_remote_code)
    new = [row for row in rows if not _there(row, editor.memory, given.file)]
    written = 0
    try:
        for edit in track(load_edits(given.file, new), "writing edits", len(new), console=Screen(stderr=True)):
            made = editor.write(edit if edit.author else replace(edit, author=given.author))
            written += 1
            for other in made.edit.contradicts:
                _line(f"warning: {_told(made.edit)} contradicts {_told(editor.memory.find(other))}")
    except ReasonEditError as error:
        raise ReasonEditError(
            f"{error} Before that {_edits(written)} had been written: import the file again to write the others."
        ) from error
    for lost in describe_lost(given.file):
        _line(f"passed over: {lost}")
    editor.memory.settle()
    also = f", {len(rows) - len(new)} were there already" if len(new) < len(rows) else ""
    _line(f"{_edits(written)} written{also}; {given.codebook} holds {_edits(len(editor.edits))}")
    return 0


def _there(row: CheckedRow, memory: EditMemory, file: Path) -> bool:
    """Whether the codebook has an edit already.

    Raises:
        ReasonEditError: It has another of that id.
    """
    there = memory.edits.get(row.id) or memory.undone.get(row.id)
    if there is None:
        return False
    if any(getattr(there, name) != getattr(row, name) for name in ("question", "answer", "reasoning", "answers")):
        raise ReasonEditError(f"There is another edit '{row.id}' in the codebook: give the one in '{file}' another id.")
    return True


def _told(edit: StoredEdit) -> str:
    return f"'{edit.id}' ({edit.answer})"


def _line(text: str) -> None:
    """Print a line, whatever somebody else wrote into it."""
    _console.print(plain(text), markup=False)
