"""``reasonedit codebook verify`` and ``repair``: what is damaged in a codebook's folder, and what is made of it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from reasonedit.codebook import Store
from reasonedit.codebook.repair import LOST, Found, LossError, repair, verify
from reasonedit.codebook.rescue.findings import FoundEdit
from reasonedit.codebook.rescue.reembed import edits_without_keys, embed_anew
from reasonedit.errors import ReasonEditError

from .confirm import confirm
from .screen import Screen, count_edits, counting, waiting

_console = Screen(highlight=False, soft_wrap=True)
_LOSSES = {
    "keys": "its keys are lost: it does not answer until it is embedded again",
    "picture": "its picture is lost",
    "crops": "a picture of its evidence is lost",
}


def verify_codebook(arguments: argparse.Namespace) -> int:
    """Say what is there.

    Returns:
        0, or 1 where something is damaged.
    """
    findings = verify(arguments.codebook)
    _report(arguments.codebook, findings)
    return int(bool(findings.damages))


def repair_codebook(arguments: argparse.Namespace) -> int:
    """Repair a codebook, asking before anything would be missing afterwards.

    Returns:
        0, or 1 where nothing was repaired, or edits are left that do not answer.
    """
    folder: Path = arguments.codebook
    try:
        findings, copy = repair(folder, accept_loss=arguments.yes)
    except LossError as error:
        _console.say("would be missing afterwards:")
        for loss in error.losses:
            _console.say(f"  {loss}")
        if not confirm(f"Write into '{folder}' what is left? The damaged folder is kept beside it."):
            _console.say("nothing was repaired")
            return 1
        findings, copy = repair(folder, accept_loss=True)
    _report(folder, findings)
    if copy is not None:
        _console.say(f"repaired; the damaged folder is {copy}")
    code = _restore_keys(arguments)
    if (folder / LOST).is_file() and copy is not None:
        _console.say(f"what is lost of which edit stands in {folder / LOST}")
    return code


def _restore_keys(arguments: argparse.Namespace) -> int:
    """Embed edits anew that have lost their keys, where there are any.

    Returns:
        0, or 1 where edits are left without keys.
    """
    folder: Path = arguments.codebook
    before, embeddable = edits_without_keys(folder)
    if embeddable and not arguments.no_embed:
        try:
            _embed(arguments)
        except ReasonEditError as error:
            _console.say(f"edits without keys were not embedded again: {error}")
    left, embeddable = edits_without_keys(folder)
    if len(left) < len(before):
        _console.say(f"embedded again: {count_edits(len(before) - len(left))}")
    if not left:
        return 0
    without_picture = len(left) - len(embeddable)
    blind = f", {without_picture} of them because a picture is lost" if without_picture else ""
    again = f"; 'reasonedit codebook repair {shlex.quote(str(folder))}' embeds them again" if embeddable else ""
    _console.say(f"without keys, so that they do not answer: {count_edits(len(left))}{blind}{again}")
    return 1


def _embed(arguments: argparse.Namespace) -> None:
    from reasonedit.migrate import open_embed
    from reasonedit.vlm import load_vlm

    model = arguments.model or Store.open(arguments.codebook).manifest.config.get("model", "")
    with waiting("loading the VLM"):
        vlm = load_vlm(model, dtype=arguments.dtype, place=True, trust_remote_code=arguments.trust_remote_code)
    with counting() as bar:
        task = bar.add_task("embedding edits", total=None)

        def advance(done: int, of: int) -> None:
            bar.update(task, completed=done, total=of)

        embed_anew(arguments.codebook, open_embed(vlm), advance)


def _report(folder: Path, findings: Found) -> None:
    _console.say(_summarise(folder, findings))
    for damage in findings.damages:
        _console.say(f"damaged: {damage.path}, byte {damage.offset}: {damage.what}")
    for edit in findings.edits:
        _report_losses(edit)
    for loss in findings.losses:
        _console.say(f"lost: {loss}")
    for note in findings.notes:
        _console.say(f"note: {note}")


def _summarise(folder: Path, findings: Found) -> str:
    readable = [edit for edit in findings.edits if edit.event is not None]
    undone, keyless = sum(not edit.counts for edit in readable), sum(not edit.keys for edit in readable)
    unreadable = len(findings.edits) - len(readable)
    state = "damaged" if findings.damages else "not all of it answers" if keyless else "whole"
    contents = [count_edits(len(readable)) + (f" ({undone} undone)" if undone else "")]
    contents += [f"{len(findings.pictures)} pictures"]
    parts = [f"{folder}: {state}", ", ".join(contents)]
    parts += [f"{count_edits(keyless)} without keys"] if keyless else []
    parts += [f"{count_edits(unreadable)} whose text cannot be read"] if unreadable else []
    return "; ".join(parts)


def _report_losses(edit: FoundEdit) -> None:
    if edit.event is None or not edit.lost:
        return
    state = "counts" if edit.counts else "undone"
    question = edit.event.edit.question if edit.event.edit is not None else ""
    for name in edit.lost:
        _console.say(f"edit '{edit.id}' ({question}; {state}): {_LOSSES[name]}")
