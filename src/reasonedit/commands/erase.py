"""``reasonedit codebook erase``: edits that shall be nowhere any more."""

from __future__ import annotations

import argparse

from reasonedit.codebook import EditMemory, Store
from reasonedit.erasure import NOT_LOOKED_FOR, Erasure, erase_from, plan_erasure

from .confirm import confirm
from .screen import Screen, count_edits

_console = Screen(highlight=False, soft_wrap=True)


def erase_edits(arguments: argparse.Namespace) -> int:
    """Say what goes and what may be left elsewhere, ask, and erase."""
    memory = EditMemory.open(Store.open(arguments.codebook))
    plan = plan_erasure(memory, arguments.id)
    _show(plan)
    question = f"Erase {count_edits(len(plan.edits))} for good? There is no way back."
    if not arguments.yes and plan.edits and not confirm(question):
        _console.say("nothing was erased")
        return 1
    erasure = erase_from(memory, arguments.id, arguments.author)
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
