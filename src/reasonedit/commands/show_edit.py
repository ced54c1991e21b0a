"""``reasonedit codebook show``: one edit with all that a codebook knows of it."""

from __future__ import annotations

import argparse
from pathlib import Path

from reasonedit.codebook import EditMemory, Store, StoredEdit

from .edit_ids import find_edit
from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True)


def show_edit(arguments: argparse.Namespace) -> int:
    """Print an edit, and draw its picture with the evidence where that is wanted."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    edit = find_edit(memory, arguments.id)
    _say("id", edit.id + (" (undone)" if edit.id in memory.undone else ""))
    _say("question", edit.question)
    if edit.choices:
        _say("choices", ", ".join(edit.choices))
    _say("answer", edit.answer)
    if edit.answers:
        _say("also", ", ".join(dict.fromkeys(answer for answer in edit.answers if answer != edit.answer)))
    _say_reasoning(edit)
    kinds = [entry.fact.kind for entry in memory.entries_of(edit.id)]
    _say("keys", ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "none")
    if edit.contradicts:
        known = {**memory.edits, **memory.undone}
        answers = {other: known[other].answer if other in known else "it is lost" for other in edit.contradicts}
        _say("against", ", ".join(f"{other} ({answer})" for other, answer in answers.items()))
    for i, (other, facts) in enumerate(memory.fact_graph.resting_on(edit.id).items()):
        _say("needed by" if i == 0 else "", f"{other}: {' '.join(facts)}")
    for event in (event for event in memory.events if event.edit_id == edit.id):
        change = {"edit": "written", "undo": "undone", "restore": "restored"}[event.op]
        author = f" by {event.author}" if event.author else ""
        _say("history" if event.op == "edit" else "", f"{change} {event.time}{author}, version {event.version}")
    if arguments.image is not None:
        _draw(memory, edit, arguments.image)
    return 0


def _say(name: str, text: str) -> None:
    _console.say(f"{name + ':' if name else '':10} {text}")


def _say_reasoning(edit: StoredEdit) -> None:
    for i, sentence in enumerate(edit.reasoning):
        given = edit.given[i] if i < len(edit.given) else []
        found = edit.found[i] if i < len(edit.found) else []
        origin = "given" if given else "guessed" if i < len(edit.guessed) and edit.guessed[i] else "found"
        places = [
            "a picture" if isinstance(region, str) else " ".join(f"{share:.2f}" for share in region)
            for region in given or found
        ]
        where = f"{origin}: {'; '.join(places)}" if places else "nowhere"
        _say("because" if i == 0 else "", f"{sentence}  ({where})")


def _draw(memory: EditMemory, stored: StoredEdit, path: Path) -> None:
    from reasonedit.codebook import as_edit
    from reasonedit.drawings import draw_evidence

    edit = as_edit(stored, {name: memory.picture(name) for name in stored.pictures})
    evidence = [given or found for given, found in zip(stored.given, stored.found, strict=False)]
    boxes = [[region for region in regions if not isinstance(region, str)] for regions in evidence]
    path.parent.mkdir(parents=True, exist_ok=True)
    draw_evidence(edit, boxes).save(path, "PNG")
    _say("picture", str(path))
