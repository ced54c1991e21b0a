"""``reasonedit ask``: one question about one picture, with a codebook."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.safe_text import to_safe_text

from .generation import add_generation, generation_from
from .screen import Screen, print_json, waiting
from .trust import add_trust

if TYPE_CHECKING:
    from reasonedit.explain import Explanation
    from reasonedit.types import Answer, Hit
    from reasonedit.vlm import Generation

_console = Screen(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Answer, and say which facts were used."""
    arguments = _parser().parse_args(argv)
    from reasonedit.editor import ReasonEditor
    from reasonedit.types import Query
    from reasonedit.vlm import load_vlm

    generation = generation_from(arguments)
    query = Query.of(arguments.image, arguments.question, arguments.choices)  # refused before the model is loaded
    with waiting("loading the VLM"):
        options: dict[str, Any] = {"dtype": arguments.dtype, "trust_remote_code": arguments.trust_remote_code}
        if arguments.codebook is not None:
            editor = ReasonEditor.load(arguments.codebook, generation=generation, **options)
        else:
            editor = ReasonEditor(load_vlm(arguments.model, place=True, **options), generation=generation)
    if arguments.explain:
        _show_explanation(editor.explain(query.image, query.question, query.choices), generation)
        return 0
    answer = editor.ask(query.image, query.question, query.choices)
    if arguments.json:
        print_json(_as_json(answer))
    elif arguments.quiet:
        _print_text(answer.text)
    else:
        _show_answer(answer, generation)
        if arguments.codebook is not None:
            _show_facts(answer)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit ask",
        description="Ask a question about one picture, with a codebook or of the bare model.",
        epilog="Example: reasonedit ask photo.jpg 'What is this?' --model embedded",
    )
    parser.add_argument("image", help="the picture")
    parser.add_argument("question")
    asked = parser.add_mutually_exclusive_group(required=True)
    asked.add_argument("--codebook", type=Path, help="folder of the codebook")
    asked.add_argument("--model", help="a VLM that is asked without a codebook: a hub id, a folder, or embedded")
    parser.add_argument("--choices", nargs="+", default=None, help="choices of a multiple-choice question")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    shown = parser.add_mutually_exclusive_group()
    shown.add_argument(
        "--explain", action="store_true", help="show the keys that came near, and why each counts or not"
    )
    shown.add_argument("--quiet", action="store_true", help="print the answer alone")
    shown.add_argument("--json", action="store_true", help="print answer and facts as JSON, for a program")
    add_generation(parser)
    add_trust(parser)
    return parser


def _as_json(answer: Answer) -> dict[str, Any]:
    """An answer for a program; distances that are infinite, as those of an empty codebook, are null."""

    def finite(value: float) -> float | None:
        return round(value, 4) if math.isfinite(value) else None

    def fact(hit: Hit) -> dict[str, Any]:
        return {"fact": hit.fact, "distance": finite(hit.distance), "kind": str(hit.kind), "edit": hit.edit_id}

    return {
        "answer": answer.text,
        "thought": answer.thought,
        "finish_reason": answer.finish_reason,
        "facts": [fact(hit) for hit in answer.hits],
        "nearest": finite(answer.nearest),
        "threshold": finite(answer.threshold),
        "in_range": answer.in_range,
    }


def _show_facts(answer: Answer) -> None:
    from reasonedit.explain import UNLIKE

    if not answer.hits and answer.in_range is False:
        _console.print(f"(no fact used: {UNLIKE})")
    elif not answer.hits and not math.isfinite(answer.nearest):
        _console.print("(no fact used: the codebook is empty)")
    elif not answer.hits and answer.nearest <= answer.threshold:
        _console.print("(no fact used: the picture does not show what those near speak of; --explain says more)")
    elif not answer.hits:
        _console.print(f"(no fact used: the nearest is at {answer.nearest:.3f}, the gate at {answer.threshold:.3f})")
    for hit in answer.hits:
        _console.tell(f"  {hit.distance:.3f}  {hit.fact}")


def _print_text(text: str) -> None:
    """Print an answer with its line breaks; only a terminal's width adds others."""
    _console.print(text, markup=False, soft_wrap=not _console.is_terminal)


def _show_answer(answer: Answer, generation: Generation) -> None:
    from reasonedit.vlm.generation import cut_off_message

    _print_text(answer.text)
    if answer.thought:
        _console.print(f"(thought: {answer.thought})", markup=False, style="dim")
    if answer.finish_reason == "length":
        _console.print(f"({cut_off_message(1, 1, generation)})", markup=False)


def _show_explanation(explanation: Explanation, generation: Generation) -> None:
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from reasonedit.explain import UNLIKE, USED

    _show_answer(explanation.answer, generation)
    gate = "open" if explanation.open else "closed"
    nearest = f"the nearest key is at {explanation.answer.nearest:.3f}, the gate at {explanation.answer.threshold:.3f}"
    _console.print(f"gate {gate}: {nearest}" if explanation.keys else "the codebook is empty")
    if explanation.answer.in_range is False:
        _console.print(f"{UNLIKE}: only edits of this very picture count for it")
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
