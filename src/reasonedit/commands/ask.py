"""``reasonedit ask``: one question about one picture, with a codebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from reasonedit.editor import ReasonEditor
from reasonedit.edits import Query

_console = Console(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Answer, and say which facts were used."""
    parser = argparse.ArgumentParser(
        prog="reasonedit ask", description="Ask a question about one picture, with a codebook."
    )
    parser.add_argument("image", help="the picture")
    parser.add_argument("question")
    parser.add_argument("--codebook", type=Path, required=True, help="folder of the codebook")
    parser.add_argument("--choices", nargs="+", default=None, help="choices of a multiple-choice question")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    arguments = parser.parse_args(argv)
    query = Query.of(arguments.image, arguments.question, arguments.choices)  # refused before the model is loaded
    with _console.status("loading the VLM"):
        editor = ReasonEditor.load(arguments.codebook, dtype=arguments.dtype)
    answer = editor.ask(query.image, query.question, query.choices)
    _console.print(answer.text, markup=False)
    if not answer.hits:
        _console.print(f"(no fact used: the nearest is at {answer.nearest:.3f}, the gate at {answer.threshold:.3f})")
    for hit in answer.hits:
        _console.print(f"  {hit.distance:.3f}  {hit.fact}", markup=False)
    return 0
