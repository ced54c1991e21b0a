"""``reasonedit codebook verify`` and ``repair``: what is damaged in a codebook's folder, and what is made of it."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from reasonedit.codebook import Store
from reasonedit.codebook.repair import LOST, Found, LossError, repair, verify
from reasonedit.codebook.rescue.findings import FoundEdit
from reasonedit.codebook.rescue.reembed import edits_without_keys, embed_anew
from reasonedit.errors import ReasonEditError
from reasonedit.shown import plain

from .asking import agreed
from .screen import Screen
from .trust import add_trust

_console = Screen(highlight=False, soft_wrap=True)
_LOST = {
    "keys": "its keys are lost: it does not answer until it is embedded anew",
    "picture": "its picture is lost",
    "crops": "a picture of its evidence is lost",
}


def add_repair(action: argparse.ArgumentParser) -> None:
    """The options of ``repair``."""
    action.add_argument("--yes", action="store_true", help="write what is left, where that is less than was there")
    action.add_argument(
        "--model",
        default=None,
        help="where the codebook's VLM lies, to embed edits anew that lost their keys (default: as the codebook says)",
    )
    action.add_argument("--no-embed", action="store_true", help="leave edits without keys for later")
    action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_trust(action)


def verify_codebook(folder: Path) -> int:
    """Say what is there.

    Returns:
        0, or 1 where something is damaged.
    """
    found = verify(folder)
    _report(folder, found)
    return int(bool(found.damages))


def repair_codebook(given: argparse.Namespace) -> int:
    """Repair a codebook, asking before anything would be missing afterwards.

    Returns:
        0, or 1 where nothing was repaired, or edits are left that do not answer.
    """
    folder: Path = given.codebook
    try:
        found, kept = repair(folder, accept_loss=given.yes)
    except LossError as error:
        _say("would be missing afterwards:")
        for loss in error.losses:
            _say(f"  {loss}")
        if not agreed(f"Write into '{folder}' what is left? The damaged folder is kept beside it."):
            _say("nothing was repaired")
            return 1
        found, kept = repair(folder, accept_loss=True)
    _report(folder, found)
    if kept is not None:
        _say(f"repaired; the damaged folder is {kept}")
    code = _embed(given)
    if (folder / LOST).is_file() and kept is not None:
        _say(f"what is lost of which edit stands in {folder / LOST}")
    return code


def _embed(given: argparse.Namespace) -> int:
    """Embed edits anew that have lost their keys, where there are any."""
    folder: Path = given.codebook
    before, able = edits_without_keys(folder)
    if able and not given.no_embed:
        try:
            _embedded(given)
        except ReasonEditError as error:
            _say(f"edits without keys were not embedded anew: {error}")
    left, able = edits_without_keys(folder)
    if len(left) < len(before):
        _say(f"embedded anew: {_edits(len(before) - len(left))}")
    if not left:
        return 0
    blind = f", {len(left) - len(able)} of them because a picture is lost" if len(able) < len(left) else ""
    again = f"; 'reasonedit codebook repair {folder}' embeds them anew" if able else ""
    _say(f"without keys, so that they do not answer: {_edits(len(left))}{blind}{again}")
    return 1


def _embedded(given: argparse.Namespace) -> None:
    from rich.progress import Progress

    from reasonedit.pipeline import open_embed
    from reasonedit.vlm import load_vlm

    model = given.model or Store.open(given.codebook).manifest.config.get("model", "")
    with _console.status("loading the VLM"):
        vlm = load_vlm(model, dtype=given.dtype, place=True, trust_remote_code=given.trust_remote_code)
    with Progress(console=Screen(stderr=True)) as bar:
        task = bar.add_task("embedding edits", total=None)
        told: Callable[[int, int], None] = lambda done, of: bar.update(task, completed=done, total=of)  # noqa: E731
        embed_anew(given.codebook, open_embed(vlm), told)


def _report(folder: Path, found: Found) -> None:
    _say(_summary(folder, found))
    for damage in found.damages:
        _say(f"damaged: {damage.path}, byte {damage.offset}: {damage.what}")
    for edit in found.edits:
        _tell(edit)
    for loss in found.losses:
        _say(f"lost: {loss}")
    for note in found.notes:
        _say(f"note: {note}")


def _summary(folder: Path, found: Found) -> str:
    there = [edit for edit in found.edits if edit.event is not None]
    undone, keyless = sum(not edit.counts for edit in there), sum(not edit.keys for edit in there)
    state = "damaged" if found.damages else "not all of it answers" if keyless else "whole"
    parts = [_edits(len(there)) + (f" ({undone} undone)" if undone else ""), f"{len(found.pictures)} pictures"]
    lost = len(found.edits) - len(there)
    more = [f"{_edits(keyless)} without keys"] * bool(keyless)
    more += [f"{_edits(lost)} whose text cannot be read"] * bool(lost)
    return "; ".join([f"{folder}: {state}", ", ".join(parts), *more])


def _edits(count: int) -> str:
    return f"{count} {'edit' if count == 1 else 'edits'}"


def _tell(edit: FoundEdit) -> None:
    if edit.event is None or not edit.lost:
        return
    state = "counts" if edit.counts else "undone"
    question = edit.event.edit.question if edit.event.edit is not None else ""
    for name in edit.lost:
        _say(f"edit '{edit.id}' ({question}; {state}): {_LOST[name]}")


def _say(text: str) -> None:
    _console.print(plain(text), markup=False)
