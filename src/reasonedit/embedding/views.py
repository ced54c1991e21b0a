"""Parts of pictures seen again: a little beside, nearer or farther, and in other colours (ours)."""

from __future__ import annotations

import random

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.evidence.windows import crop, shrink
from reasonedit.images.augment import Change, augment

PARTS, VIEWS = 2, 4
"""Parts of a picture that are seen, and how often each: they show what a layer makes of place, size and colour."""

_SIDES = (0.25, 0.5)
"""The least and the largest side of a part, as a share of the picture's."""
_AROUND_PART = (0.8, 1.25)
"""The least and the largest side of a view, as a share of the part's."""
_AROUND_REGION = (1.0, 1.4)
"""The same of a region that becomes a key. The regions of a query are wider than the windows that evidence is sought
in; on development seeds wider views found more things again than views from 0.8 to 1.2."""
_MOVED = 0.12
"""How far the middle of a view lies from the part's at most, as a share of the part's side."""
_OTHER_COLOURS = Change(filled=1.0, rotation=0.0, jitter=0.15, hue=0.5)


def views_of_parts(picture: Image.Image) -> list[Image.Image]:
    """Some parts of a picture, the views of each one after the other; the same of the same picture."""
    picture = shrink(picture)
    rng = random.Random(picture.tobytes())
    views = []
    for _ in range(PARTS):
        side = rng.uniform(*_SIDES)
        left, top = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
        part = (left, top, left + side, top + side)
        views += [_view(picture, part, _AROUND_PART, rng) for _ in range(VIEWS)]
    return views


def views_of_region(picture: Image.Image, region: Box, count: int) -> list[Image.Image]:
    """Views of a region of a picture; the same of the same region.

    Args:
        picture: The picture, shrunk as regions are cut out of it.
        region: The region.
        count: How many.
    """
    rng = random.Random(picture.tobytes() + repr(region).encode())
    return [_view(picture, region, _AROUND_REGION, rng) for _ in range(count)]


def _view(picture: Image.Image, part: Box, sides: tuple[float, float], rng: random.Random) -> Image.Image:
    """A part of a picture seen again; what would lie outside of the picture is moved into it."""
    larger = rng.uniform(*sides)
    left, right = _move(part[0], part[2], larger, rng)
    top, bottom = _move(part[1], part[3], larger, rng)
    return augment(crop(picture, (left, top, right, bottom)), rng, _OTHER_COLOURS)


def _move(start: float, end: float, larger: float, rng: random.Random) -> tuple[float, float]:
    side = min(1.0, larger * (end - start))
    middle = (start + end) / 2 + rng.uniform(-_MOVED, _MOVED) * (end - start)
    first = min(max(middle - side / 2, 0.0), 1.0 - side)
    return first, first + side
