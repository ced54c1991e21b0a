"""``reasonedit edit``: correct one answer and keep it in a codebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reasonedit.boxes import Region, check_box
from reasonedit.codebook import Store
from reasonedit.codebook.disk.lock import login_name
from reasonedit.design import Design
from reasonedit.editor import ReasonEditor
from reasonedit.errors import ReasonEditError
from reasonedit.shown import plain
from reasonedit.types import Edit
from reasonedit.validation import split_reasoning
from reasonedit.vlm import load_vlm

from .generation import add_generation, generation_from
from .screen import Screen
from .trust import add_trust

_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Write one edit; the codebook is made when it is not there."""
    parser = argparse.ArgumentParser(
        prog="reasonedit edit", description="Correct one answer and keep it in a codebook."
    )
    parser.add_argument("image", help="the picture")
    parser.add_argument("question")
    parser.add_argument("--answer", required=True, help="the right answer")
    parser.add_argument("--reasoning", required=True, help="why it is right, one fact per sentence")
    parser.add_argument(
        "--codebook", type=Path, required=True, help="folder of the codebook, made when it is not there"
    )
    parser.add_argument("--choices", nargs="+", default=None, help="choices of a multiple-choice question")
    parser.add_argument(
        "--model", default=None, help="VLM of a new codebook: a hub id, a folder, or embedded (the default)"
    )
    parser.add_argument(
        "--design", default=None, help="design of a new codebook: a JSON file, as reasonedit select writes"
    )
    parser.add_argument(
        "--box",
        nargs=5,
        action="append",
        default=[],
        metavar=("SENTENCE", "LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where the picture shows what a sentence (1, 2, …) says, as shares of its width and height; "
        "found when not given",
    )
    parser.add_argument("--author", default=login_name(), help="who corrects it (default: %(default)s)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_generation(parser)
    add_trust(parser)
    given = parser.parse_args(argv)
    # Everything that can be refused is, before the model is loaded.
    how = generation_from(given)
    sentences = split_reasoning(given.reasoning)
    evidence = _evidence(given.box, len(sentences))
    edit = Edit.of(given.image, given.question, given.answer, sentences, given.choices, evidence, given.author)
    there = Store.exists(given.codebook)
    options: dict[str, Any] = {"dtype": given.dtype, "trust_remote_code": given.trust_remote_code}
    if there and given.model is not None:
        raise ReasonEditError(f"The codebook '{given.codebook}' has its model already: leave --model out.")
    if there and given.design is not None:
        raise ReasonEditError(f"The codebook '{given.codebook}' has its design already: leave --design out.")
    with _console.status("loading the VLM (the first time it is also put together, some 20 seconds)"):
        if there:
            editor = ReasonEditor.load(given.codebook, generation=how, **options)
        else:
            model = given.model or "embedded"
            design = Design.load(given.design, Design.default(model)) if given.design else None
            editor = ReasonEditor(load_vlm(model, place=True, **options), design, how)
    before = editor.ask(edit.image, edit.question, edit.choices)
    written = editor.write(edit)
    after = editor.ask(edit.image, edit.question, edit.choices)
    editor.save(given.codebook)
    _console.print(f"before: {plain(before.text)}\nafter:  {plain(after.text)}", markup=False)
    for sentence, theirs, found in zip(edit.reasoning, edit.evidence, written.evidence, strict=True):
        regions = list(theirs or found.boxes)
        where = (
            "; ".join(" ".join(f"{x:.2f}" for x in r) for r in regions if isinstance(r, tuple))
            or "nowhere in particular"
        )
        _console.print(f"  kept: {plain(sentence)}  (seen at {where})", markup=False)
    for other in written.edit.contradicts:
        told = plain(f"'{editor.memory.find(other).answer}' (edit {other})")
        _console.print(f"warning: this contradicts {told}: the same question about the same picture", markup=False)
    count = len(editor.memory.edits)
    _console.print(
        f"{given.codebook} holds {count} {'edit' if count == 1 else 'edits'}; this is {edit.id}", markup=False
    )
    return 0


def _evidence(boxes: Sequence[Sequence[str]], sentences: int) -> list[list[Region]]:
    """The boxes given on the command line, by sentence."""
    evidence: list[list[Region]] = [[] for _ in range(sentences)]
    for number, *box in boxes:
        if not number.isdigit() or not 1 <= int(number) <= sentences:
            raise ReasonEditError(f"--box names sentence {number}, but the reasoning has sentences 1 to {sentences}.")
        evidence[int(number) - 1].append(check_box(box))
    return evidence
