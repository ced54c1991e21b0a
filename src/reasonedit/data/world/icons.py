"""Icons of the kinds of object, drawn with Pillow in any colour."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw

from .kinds import ICONS, Shape

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (215, 40, 40),
    "orange": (245, 140, 25),
    "yellow": (240, 225, 60),
    "green": (50, 160, 60),
    "cyan": (70, 215, 225),
    "blue": (45, 70, 210),
    "purple": (150, 50, 190),
    "white": (245, 245, 245),
}

RANDOM = "shape-"
"""Prefix of the kinds that are random icons."""

_INK = (25, 25, 25)
_BOX = 100
_OUTLINE = 0.02


def random_shapes(seed: int) -> list[Shape]:
    """An icon of nothing in particular: a large shape and some smaller ones on it.

    Training pictures hold a few of these, so that a model learns that it does not know everything it sees.
    """
    rng = random.Random(seed)

    def shape(tone: str, low: float, high: float, smallest: float) -> Shape:
        width, height = rng.uniform(smallest, high - low), rng.uniform(smallest, high - low)
        x, y = rng.uniform(low, high - width), rng.uniform(low, high - height)
        primitive = rng.choice(("ellipse", "rectangle", "polygon", "pie"))
        if primitive == "polygon":
            corners = [(x + rng.random() * width, y + rng.random() * height) for _ in range(rng.choice((3, 4)))]
            centre = (x + width / 2, y + height / 2)
            corners.sort(key=lambda c: math.atan2(c[1] - centre[1], c[0] - centre[0]))
            return primitive, tone, tuple(v for corner in [*corners, (x, y + height)] for v in corner)
        box = (x, y, x + width, y + height)
        return primitive, tone, (*box, 180.0, 360.0) if primitive == "pie" else box

    parts = [shape("main", 2, 98, 55)]
    parts += [shape(rng.choice(("main", "dark", "light", "ink")), 4, 96, 15) for _ in range(rng.randint(1, 4))]
    return parts


def shapes_of(kind: str) -> Sequence[Shape]:
    """The shapes of a kind; ``"shape-7"`` is the random icon of seed 7."""
    return random_shapes(int(kind[len(RANDOM) :])) if kind.startswith(RANDOM) else ICONS[kind]


def _tones(colour: tuple[int, int, int]) -> dict[str, tuple[int, int, int, int]]:
    r, g, b = colour
    near_white = r + g + b > 690
    light = (190, 190, 190) if near_white else tuple(int(x + (255 - x) * 0.6) for x in colour)
    return {
        "main": (r, g, b, 255),
        "dark": (int(r * 0.62), int(g * 0.62), int(b * 0.62), 255),
        "light": (light[0], light[1], light[2], 255),
        "ink": (*_INK, 255),
        "hole": (0, 0, 0, 0),
    }


@lru_cache(maxsize=4096)
def draw_icon(kind: str, colour: tuple[int, int, int], size: int) -> Image.Image:
    """Draw one kind of object on a transparent square.

    Args:
        kind: A key of :data:`ICONS`, or ``shape-`` and a number (see :func:`random_shapes`).
        colour: The object's main colour, RGB in 0..255.
        size: Side of the square in pixels.

    Returns:
        An RGBA picture, shared between callers: copy it before changing it.
    """
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    scale = size / _BOX
    tones = _tones(colour)
    edge = max(1, int(size * _OUTLINE))
    for primitive, tone, numbers in shapes_of(kind):
        fill = tones[tone]
        outline = None if tone == "hole" else (*_INK, 255)
        if primitive == "arc":
            *box, start, end, width = numbers
            draw.arc([v * scale for v in box], start, end, fill=fill, width=max(1, int(width * scale)))
        elif primitive == "line":
            *points, width = numbers
            draw.line([v * scale for v in points], fill=fill, width=max(1, int(width * scale)), joint="curve")
        elif primitive == "pie":
            *box, start, end = numbers
            draw.pieslice([v * scale for v in box], start, end, fill=fill, outline=outline)
        elif primitive == "polygon":
            draw.polygon([v * scale for v in numbers], fill=fill, outline=outline)
        elif primitive == "ellipse":
            draw.ellipse([v * scale for v in numbers], fill=fill, outline=outline, width=edge)
        else:
            draw.rectangle([v * scale for v in numbers], fill=fill, outline=outline, width=edge)
    return image
