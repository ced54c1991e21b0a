"""A sheet of sample scenes with questions, answers and reasoning, for a person to look at."""

from __future__ import annotations

import random
import textwrap
from itertools import islice

from PIL import Image, ImageDraw, ImageFont

from .benchmark import EmbeddedWorld
from .facts import OLD

_COLUMNS, _ROWS = 4, 3
_PICTURE, _GAP, _TEXT = 240, 24, 150
_LINE = 17
_INK, _MUTED, _RIGHT = (30, 30, 30), (120, 120, 120), (20, 110, 50)


def draw_sheet(seed: int) -> Image.Image:
    """Draw twelve samples of the world's edits, each with what was true before."""
    world = EmbeddedWorld("demo", seed)
    edits = list(islice(world.candidates(), 4 * _COLUMNS * _ROWS))
    chosen = random.Random(seed).sample(edits, _COLUMNS * _ROWS)
    width = _COLUMNS * (_PICTURE + _GAP) + _GAP
    height = _ROWS * (_PICTURE + _TEXT + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for i, edit in enumerate(chosen):
        x = _GAP + i % _COLUMNS * (_PICTURE + _GAP)
        y = _GAP + i // _COLUMNS * (_PICTURE + _TEXT + _GAP)
        sheet.paste(edit.image.resize((_PICTURE, _PICTURE), Image.Resampling.LANCZOS), (x, y))
        sample = world.sample(edit.id)
        is_known = sample.kind in OLD.of_kind
        old = OLD.follow(sample.kind, sample.relation, two_steps=sample.form == "two_step") if is_known else ""
        lines = [(_INK, edit.question), (_RIGHT, edit.answer)]
        lines += [(_INK, sentence) for sentence in edit.reasoning]
        lines.append((_MUTED, f"(before: {old})" if old else "(a kind the VLM has never seen)"))
        y += _PICTURE + 6
        for colour, text in lines:
            for part in textwrap.wrap(text, 36):
                draw.text((x, y), part, fill=colour, font=font)
                y += _LINE
    return sheet
