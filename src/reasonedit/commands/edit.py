"""``reasonedit edit``: correct one answer and keep it in a codebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.errors import InputError

from .author import add_author
from .generation import add_generation, generation_from
from .screen import Screen, count_edits, waiting
from .trust import add_trust

if TYPE_CHECKING:
    from reasonedit.boxes import Region
    from reasonedit.editor import ReasonEditor
    from reasonedit.keys import Written
    from reasonedit.types import Edit
    from reasonedit.vlm import Generation

_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Write one edit; the codebook is made when it is not there."""
    arguments = _parser().parse_args(argv)
    from reasonedit.types import Query

    from .show_check import show_check, show_verdict

    # Everything that can be refused is, before the model is loaded.
    if arguments.also and not arguments.check:
        raise InputError("--also asks a further question of a check: give --check too, or leave it out.")
    generation = generation_from(arguments)
    edit = _read_edit(arguments)
    questions = [Query.of(image, question) for image, question in arguments.also]
    _check_codebook(arguments)
    with waiting("loading the VLM (the first time it is also put together, some 20 seconds)"):
        editor = _open_editor(arguments, generation)
    if arguments.check:
        show_check(editor.check_edit(edit, questions))
        return 0
    before = editor.ask(edit.image, edit.question, edit.choices)
    written = editor.write(edit)
    after = editor.ask(edit.image, edit.question, edit.choices)
    editor.save(arguments.codebook)
    _console.say(f"before: {before.text}")
    _console.say(f"after:  {after.text}")
    show_written(editor, edit, written)
    with waiting("checking the edit"):
        checked = editor.check_edit(edit.id)
    show_verdict(checked)
    _console.say(f"{arguments.codebook} holds {count_edits(len(editor.memory.edits))}; this is {edit.id}")
    return 0


def _parser() -> argparse.ArgumentParser:
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
        "--calibration",
        default=None,
        metavar="FOLDER",
        help="calibration of a new codebook, as reasonedit calibrate writes; later: calibrate --codebook",
    )
    add_box(parser)
    parser.add_argument("--check", action="store_true", help="say what the edit would do, and write nothing")
    parser.add_argument(
        "--also",
        nargs=2,
        action="append",
        default=[],
        metavar=("IMAGE", "QUESTION"),
        help="with --check: another question whose answer before and after is shown",
    )
    add_author(parser, "who corrects it")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_generation(parser)
    add_trust(parser)
    return parser


def add_box(parser: argparse.ArgumentParser) -> None:
    """Let a command take boxes; see :func:`read_boxes`."""
    parser.add_argument(
        "--box",
        nargs=5,
        action="append",
        default=[],
        metavar=("SENTENCE", "LEFT", "TOP", "RIGHT", "BOTTOM"),
        help="where the picture shows what a sentence (1, 2, …) says, as shares of its width and height; "
        "found when not given",
    )


def _read_edit(arguments: argparse.Namespace) -> Edit:
    from reasonedit.types import Edit
    from reasonedit.validation import split_reasoning

    sentences = split_reasoning(arguments.reasoning)
    return Edit.of(
        arguments.image,
        arguments.question,
        arguments.answer,
        sentences,
        arguments.choices,
        read_boxes(arguments.box, len(sentences)),
        arguments.author,
    )


def _check_codebook(arguments: argparse.Namespace) -> None:
    """Refuse what a codebook that is there has already."""
    from reasonedit.codebook import Store

    for name in ("model", "design", "calibration"):
        if getattr(arguments, name) is not None and Store.exists(arguments.codebook):
            raise InputError(f"The codebook '{arguments.codebook}' has its {name} already: leave --{name} out.")


def _open_editor(arguments: argparse.Namespace, generation: Generation) -> ReasonEditor:
    from reasonedit.calibration import Calibration
    from reasonedit.codebook import Store, check_place
    from reasonedit.design import Design
    from reasonedit.editor import ReasonEditor
    from reasonedit.vlm import load_vlm

    options: dict[str, Any] = {"dtype": arguments.dtype, "trust_remote_code": arguments.trust_remote_code}
    if Store.exists(arguments.codebook):
        return ReasonEditor.load(arguments.codebook, generation=generation, **options)
    check_place(arguments.codebook)
    model = arguments.model or "embedded"
    design = Design.load(arguments.design, Design.default(model)) if arguments.design else None
    calibration = Calibration.load(arguments.calibration) if arguments.calibration else None
    return ReasonEditor(load_vlm(model, place=True, **options), design, generation, calibration)


def show_written(editor: ReasonEditor, edit: Edit, written: Written) -> None:
    """Print where the sentences of an edit are seen, and what it contradicts."""
    for sentence, given, evidence in zip(edit.reasoning, edit.evidence, written.evidence, strict=True):
        boxes = [region for region in given or evidence.boxes if isinstance(region, tuple)]
        places = "; ".join(" ".join(f"{share:.2f}" for share in box) for box in boxes)
        _console.say(f"  kept: {sentence}  (seen at {places or 'nowhere in particular'})")
    for other in written.edit.contradicts:
        answer = f"'{editor.memory.find(other).answer}' (edit {other})"
        _console.tell(f"warning: this contradicts {answer}: the same question about the same picture")


def read_boxes(boxes: Sequence[Sequence[str]], sentences: int) -> list[list[Region]]:
    """The boxes given on the command line, by sentence."""
    from reasonedit.boxes import check_box

    evidence: list[list[Region]] = [[] for _ in range(sentences)]
    for number, *box in boxes:
        if not number.isdecimal() or not 1 <= int(number) <= sentences:
            raise InputError(f"--box names sentence {number}, but the reasoning has sentences 1 to {sentences}.")
        evidence[int(number) - 1].append(check_box(box))
    return evidence
