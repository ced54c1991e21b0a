"""``reasonedit codebook replace``: an edit that was wrong itself gives way to a right one."""

from __future__ import annotations

import argparse
import uuid
from dataclasses import replace

from reasonedit.codebook import EditMemory, Store, as_edit
from reasonedit.editor import ReasonEditor
from reasonedit.errors import InputError
from reasonedit.types import Edit
from reasonedit.validation import split_reasoning

from .edit import read_boxes, show_written
from .edit_ids import find_edit
from .screen import Screen, waiting
from .show_check import show_check

_console = Screen(highlight=False, soft_wrap=True)


def replace_edit(arguments: argparse.Namespace) -> int:
    """Write an edit in the place of another, or say what that would do."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    old = find_edit(memory, arguments.id)
    if old.id in memory.undone:
        raise InputError(f"The edit '{old.id}' is undone already: write a new one with 'reasonedit edit'.")
    edit = _change(as_edit(old, {name: memory.picture(name) for name in old.pictures}), arguments)
    with waiting("loading the VLM"):
        editor = ReasonEditor.load(
            arguments.codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
        )
    if arguments.check:
        show_check(editor.check_edit(edit, replaces=old.id))
        return 0
    before = editor.ask(edit.image, edit.question, edit.choices)
    written = editor.replace(old.id, edit)
    editor.memory.settle()
    _console.say(f"before: {before.text}")
    _console.say(f"after:  {editor.ask(edit.image, edit.question, edit.choices).text}")
    show_written(editor, edit, written)
    _console.say(f"{edit.id} has replaced {old.id}, which is undone")
    return 0


def _change(old: Edit, arguments: argparse.Namespace) -> Edit:
    """The new edit: what is not given is as in the old one."""
    if all(not getattr(arguments, name) for name in ("answer", "reasoning", "question", "box")):
        raise InputError("Say what is to be different: --answer, --reasoning, --question or --box.")
    reasoning = split_reasoning(arguments.reasoning) if arguments.reasoning else old.reasoning
    boxes = read_boxes(arguments.box, len(reasoning))
    known = dict(zip(old.reasoning, old.evidence, strict=True))
    evidence = [given or known.get(sentence) for given, sentence in zip(boxes, reasoning, strict=True)]
    return replace(
        old,
        id=uuid.uuid4().hex,
        question=arguments.question or old.question,
        answer=arguments.answer or old.answer,
        answers=[] if arguments.answer else old.answers,
        reasoning=reasoning,
        evidence=evidence if any(evidence) else (),
        author=arguments.author,
        time="",
    )
