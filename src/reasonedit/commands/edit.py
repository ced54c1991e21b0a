"""``reasonedit edit``: correct one answer and keep it in a codebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reasonedit.editor import ReasonEditor
from reasonedit.edits import Edit
from reasonedit.errors import ReasonEditError

_console = Console(highlight=False)


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
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    given = parser.parse_args(argv)
    # Everything that can be refused is, before the model is loaded.
    edit = Edit.of(given.image, given.question, given.answer, given.reasoning, given.choices)
    there = (given.codebook / "codebook.json").is_file()
    if there and given.model is not None:
        raise ReasonEditError(f"The codebook '{given.codebook}' has its model already: leave --model out.")
    with _console.status("loading the VLM (the first time it is also put together, some 20 seconds)"):
        if there:
            editor = ReasonEditor.load(given.codebook, dtype=given.dtype)
        else:
            editor = ReasonEditor.from_pretrained(given.model or "embedded", dtype=given.dtype)
    before = editor.ask(edit.image, edit.question, edit.choices)
    editor.write(edit)
    after = editor.ask(edit.image, edit.question, edit.choices)
    editor.save(given.codebook)
    _console.print(f"before: {before.text}\nafter:  {after.text}", markup=False)
    for sentence in edit.reasoning:
        _console.print(f"  kept: {sentence}", markup=False)
    count = len(editor.memory.edits)
    _console.print(f"{given.codebook} holds {count} {'edit' if count == 1 else 'edits'}")
    return 0
