"""Pictures of an edit for a person to look at."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from reasonedit.edits import Edit, Query

_PICTURE, _GAP, _COLUMN, _LINE = 384, 40, 470, 34
_INK, _MUTED, _WRONG, _RIGHT, _RULE = (32, 33, 36), (110, 113, 120), (176, 32, 32), (22, 115, 60), (218, 220, 224)


@dataclass(frozen=True)
class Corrected:
    """A question with the answers before and after an edit."""

    query: Query
    before: str
    after: str


def draw_story(edit: Edit, mistake: Corrected, other: Corrected) -> Image.Image:
    """One edit as three columns: the mistake, the reasoning that was given, another question that it put right."""
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
    card = Image.new("RGB", (3 * _COLUMN + _GAP, height), "white")
    draw = ImageDraw.Draw(card)
    title, text = ImageFont.load_default(22), ImageFont.load_default(26)
    for i, (heading, query, lines) in enumerate(columns):
        x, y = _GAP + i * _COLUMN, _GAP
        if i:
            draw.line([(x - _GAP, _GAP), (x - _GAP, height - _GAP)], fill=_RULE, width=2)
        draw.text((x, y), heading, fill=_MUTED, font=title)
        y += _LINE + _GAP // 2
        if query is not None:
            card.paste(query.image.resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS), (x, y))
            y += _PICTURE + _GAP // 3
        for colour, line in lines:
            draw.text((x, y), line, fill=colour, font=text)
            y += _LINE
    return card


def _lines(text: str, colour: tuple[int, int, int]) -> list[tuple[tuple[int, int, int], str]]:
    return [(colour, line) for line in textwrap.wrap(text, 30)]
