"""``reasonedit ask``: one question about one picture, with a codebook."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.editor import ReasonEditor
from reasonedit.explain import UNLIKE, USED, Explanation
from reasonedit.safe_text import to_safe_text
from reasonedit.types import Answer, Query
from reasonedit.vlm import Generation, load_vlm
from reasonedit.vlm.generation import cut_off_message

from .generation import add_generation, generation_from
from .screen import Screen
from .trust import add_trust

_console = Screen(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Answer, and say which facts were used."""
    parser = argparse.ArgumentParser(
        prog="reasonedit ask", description="Ask a question about one picture, with a codebook or of the bare model."
    )
    parser.add_argument("image", help="the picture")
    parser.add_argument("question")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--codebook", type=Path, help="folder of the codebook")
    asked.add_argument("--model", help="a VLM that is asked without a codebook: a hub id, a folder, or embedded")
    parser.add_argument("--choices", nargs="+", default=None, help="choices of a multiple-choice question")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    parser.add_argument(
        "--explain", action="store_true", help="show the keys that came near, and why each counts or not"
    )
    add_generation(parser)
    add_trust(parser)
    arguments = parser.parse_args(argv)
    generation = generation_from(arguments)
    query = Query.of(arguments.image, arguments.question, arguments.choices)  # refused before the model is loaded
    with _console.status("loading the VLM"):
        options: dict[str, Any] = {"dtype": arguments.dtype, "trust_remote_code": arguments.trust_remote_code}
        if arguments.codebook is not None:
            editor = ReasonEditor.load(arguments.codebook, generation=generation, **options)
        else:
            editor = ReasonEditor(load_vlm(arguments.model, place=True, **options), generation=generation)
    if arguments.explain:
        _show_explanation(editor.explain(query.image, query.question, query.choices), generation)
        return 0
    answer = editor.ask(query.image, query.question, query.choices)
    _show_answer(answer, generation)
    if arguments.codebook is None:
        return 0
    if not answer.hits and answer.in_range is False:
        _console.print(f"(no fact used: {UNLIKE})")
    elif not answer.hits:
        _console.print(f"(no fact used: the nearest is at {answer.nearest:.3f}, the gate at {answer.threshold:.3f})")
    for hit in answer.hits:
        _console.print(f"  {hit.distance:.3f}  {to_safe_text(hit.fact)}", markup=False)
    return 0


def _show_answer(answer: Answer, generation: Generation) -> None:
    _console.print(answer.text, markup=False)
    if answer.thought:
        _console.print(f"(thought: {answer.thought})", markup=False, style="dim")
    if answer.finish_reason == "length":
        _console.print(f"({cut_off_message(1, 1, generation)})", markup=False)


def _show_explanation(explanation: Explanation, generation: Generation) -> None:
    _show_answer(explanation.answer, generation)
    gate = "open" if explanation.open else "closed"
    nearest = f"the nearest key is at {explanation.answer.nearest:.3f}, the gate at {explanation.answer.threshold:.3f}"
    _console.print(f"gate {gate}: {nearest}" if explanation.keys else "the codebook is empty")
    if explanation.answer.in_range is False:
        _console.print(f"{UNLIKE}: no fact is fetched by it")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("distance", "radius", "match"):
        table.add_column(name, justify="right")
    for name in ("key", "fact", "edit", "picture", "fate"):
        table.add_column(name, overflow="fold" if name in ("fact", "fate") else "ellipsis")
    for key in explanation.keys:
        visual_match = "" if key.visual_match is None else f"{key.visual_match:.1f}"
        style = "bold" if key.fate == USED else "dim"
        texts = [key.kind, " / ".join(key.facts), key.edit.id[:12], key.edit.image[:8], key.fate]
        table.add_row(
            f"{key.distance:.3f}",
            f"{key.radius:.3f}",
            visual_match,
            *map(escape, map(to_safe_text, texts)),
            style=style,
        )
    if explanation.keys:
        _console.print(table)
