"""``reasonedit edits erase``: edits that are to be nowhere any more."""

from __future__ import annotations

import argparse
from collections.abc import Sized

from reasonedit.codebook import EditMemory, Store
from reasonedit.erasure import NOT_LOOKED_FOR, Erasure, erase_from, plan_erasure
from reasonedit.shown import plain

from .asking import agreed
from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True)


def erase_edits(given: argparse.Namespace) -> int:
    """Say what goes and what may be left elsewhere, ask, and erase."""
    memory = EditMemory.open(Store.open(given.codebook))
    told = plan_erasure(memory, given.id)
    for edit in told.edits:
        _say(f"{edit.id}  {edit.question}  {edit.answer}")
    if told.here:
        _say("what goes:")
    for text in told.here:
        _say(f"  {text}")
    _say_elsewhere(told)
    if not given.yes and told.edits and not agreed(f"Erase {_edits(told.edits)} for good? There is no way back."):
        _say("nothing was erased")
        return 1
    done = erase_from(memory, given.id, given.author)
    for text in done.here:
        _say(f"cleaned: {text}")
    for text in done.elsewhere:
        if text not in told.elsewhere:
            _say(f"left: {text}")
    what = f"{_edits(done.edits)} erased" if done.edits else "what was cut short is finished"
    _say(f"{what}; {given.codebook} holds {_edits(memory.edits)}")
    return 0


def _edits(edits: Sized) -> str:
    return f"{len(edits)} {'edit' if len(edits) == 1 else 'edits'}"


def _say_elsewhere(told: Erasure) -> None:
    _say("what may be left elsewhere:")
    for text in told.elsewhere:
        _say(f"  {text}")
    _say(f"  {NOT_LOOKED_FOR}")


def _say(text: str) -> None:
    _console.print(plain(text), markup=False)
