"""Drawings of edits and of retrieved facts, for people to look at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageColor, ImageDraw, ImageFont

from reasonedit.boxes import Box
from reasonedit.types import Edit, Hit, Query

_MAX_FACTS = 8
_PICTURE, _GAP, _COLUMN, _LINE = 384, 40, 470, 34
_INK, _MUTED, _WRONG, _RIGHT, _RULE = (32, 33, 36), (110, 113, 120), (176, 32, 32), (22, 115, 60), (218, 220, 224)


@dataclass(frozen=True)
class Corrected:
    """A question with the answers before and after an edit."""

    query: Query
    before: str
    after: str


def draw_story(edit: Edit, mistake: Corrected, other: Corrected) -> Image.Image:
    """Draw an edit as three columns: the mistake, the reasoning, and another question that the edit corrected."""
    columns = [
        ("A mistake", mistake.query, [*_lines(mistake.query.question, _INK), (_WRONG, mistake.before)]),
        (
            "A person corrects it, and says why",
            None,
            [(_RIGHT, edit.answer), *[line for s in edit.reasoning for line in _lines(s, _INK)]],
        ),
        (
            "Another picture, another question",
            other.query,
            [
                *_lines(other.query.question, _INK),
                (_WRONG, f"before: {other.before}"),
                (_RIGHT, f"after: {other.after}"),
            ],
        ),
    ]
    rows = max(len(lines) for _, query, lines in columns if query is not None)
    height = 3 * _GAP + _LINE + _PICTURE + rows * _LINE
    drawing = Image.new("RGB", (3 * _COLUMN + _GAP, height), "white")
    draw = ImageDraw.Draw(drawing)
    title, text = ImageFont.load_default(22), ImageFont.load_default(26)
    for i, (heading, query, lines) in enumerate(columns):
        x, y = _GAP + i * _COLUMN, _GAP
        if i:
            draw.line([(x - _GAP, _GAP), (x - _GAP, height - _GAP)], fill=_RULE, width=2)
        draw.text((x, y), heading, fill=_MUTED, font=title)
        y += _LINE + _GAP // 2
        if query is not None:
            drawing.paste(query.image.resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS), (x, y))
            y += _PICTURE + _GAP // 3
        for colour, line in lines:
            draw.text((x, y), line, fill=colour, font=text)
            y += _LINE
    return drawing


def _lines(text: str, colour: tuple[int, int, int]) -> list[tuple[tuple[int, int, int], str]]:
    """A text in lines of 30 characters, each with its colour."""
    return [(colour, line) for line in textwrap.wrap(text, 30)]


COLOURS = ("#c2410c", "#1d6fb8", "#15803d", "#9333ea", "#b45309", "#0f766e")
"""Colours of sentences, in their order; the seventh sentence gets the first colour again."""


def draw_evidence(edit: Edit, boxes: Sequence[Sequence[Box]]) -> Image.Image:
    """Draw an edit, and into its picture the windows that its sentences speak of, in a colour per sentence.

    Args:
        edit: The edit.
        boxes: The windows of each sentence.
    """
    picture = edit.image.resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for i, windows in enumerate(boxes):
        for left, top, right, bottom in windows:
            inset = 3 + 5 * (i % 3)  # keeps equal windows of two sentences apart
            corners = [left * _PICTURE + inset, top * _PICTURE + inset]
            corners += [right * _PICTURE - inset, bottom * _PICTURE - inset]
            draw.rectangle(corners, outline=COLOURS[i % len(COLOURS)], width=4)
    lines = [*_lines(edit.question, _INK), *_lines(edit.answer, _RIGHT)]
    for i, sentence in enumerate(edit.reasoning):
        colour = ImageColor.getrgb(COLOURS[i % len(COLOURS)])
        lines += _lines(sentence, (colour[0], colour[1], colour[2]))
    return _draw_beside(picture, lines)


def draw_retrieval(query: Query, hits: Sequence[Hit], answer: str, *, right: bool) -> Image.Image:
    """Draw a query with the facts that were retrieved for it, nearest first, and the answer."""
    picture = query.image.resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS)
    lines = _lines(query.question, _INK)
    for hit in hits[:_MAX_FACTS]:
        lines += _lines(f"{hit.distance:.2f}  {hit.fact}", _MUTED)
    if len(hits) > _MAX_FACTS:
        lines += _lines(f"… and {len(hits) - _MAX_FACTS} more facts", _MUTED)
    return _draw_beside(picture, [*lines, *_lines(answer, _RIGHT if right else _WRONG)])


def _draw_beside(picture: Image.Image, lines: Sequence[tuple[tuple[int, int, int], str]]) -> Image.Image:
    """A picture with lines of text to its right."""
    height = 2 * _GAP + max(_PICTURE, len(lines) * _LINE)
    drawing = Image.new("RGB", (_PICTURE + _COLUMN + 2 * _GAP, height), "white")
    drawing.paste(picture, (_GAP, _GAP))
    draw, font = ImageDraw.Draw(drawing), ImageFont.load_default(24)
    for i, (colour, line) in enumerate(lines):
        draw.text((_PICTURE + 2 * _GAP, _GAP + i * _LINE), line, fill=colour, font=font)
    return drawing
