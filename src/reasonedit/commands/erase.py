"""``reasonedit codebook erase``: edits that shall be nowhere any more."""

from __future__ import annotations

import argparse

from reasonedit.codebook import EditMemory, Store
from reasonedit.erasure import NOT_LOOKED_FOR, Erasure, erasable_ids, erase_from, plan_erasure
from reasonedit.errors import InputError

from .confirm import confirm
from .edit_ids import whole_id
from .screen import Screen, count_edits

_console = Screen(highlight=False, soft_wrap=True)


def erase_edits(arguments: argparse.Namespace) -> int:
    """Say what goes and what may be left elsewhere, ask, and erase."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    known = erasable_ids(memory)
    ids = [whole_id(text, known) for text in arguments.id]
    plan = plan_erasure(memory, ids)
    going = {edit.id for edit in plan.edits}
    cut_short = [
        f"'{text}' is the beginning of '{name}'."
        for text, name in zip(arguments.id, ids, strict=True)
        if text != name and name in going
    ]
    if cut_short and arguments.yes:
        raise InputError(
            f"{cut_short[0]} --yes asks nobody whether that one is meant: write the whole id, or leave --yes out."
        )
    _show(plan)
    question = " ".join([*cut_short, f"Erase {count_edits(len(going))} for good? There is no way back."])
    if not arguments.yes and plan.edits and not confirm(question):
        _console.say("nothing was erased")
        return 1
    erasure = erase_from(memory, ids, arguments.author)
    for text in erasure.here:
        _console.say(f"cleaned: {text}")
    for text in erasure.elsewhere:
        if text not in plan.elsewhere:
            _console.say(f"left: {text}")
    if erasure.edits:
        result = f"{count_edits(len(erasure.edits))} erased"
    else:
        result = "the erasing that was cut short is finished"
    _console.say(f"{result}; {arguments.codebook} holds {count_edits(len(memory.edits))}")
    return 0


def _show(plan: Erasure) -> None:
    for edit in plan.edits:
        _console.say(f"{edit.id}  {edit.question}  {edit.answer}")
    if plan.here:
        _console.say("what goes:")
    for text in plan.here:
        _console.say(f"  {text}")
    _console.say("what may be left elsewhere:")
    for text in (*plan.elsewhere, NOT_LOOKED_FOR):
        _console.say(f"  {text}")
