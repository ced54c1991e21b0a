"""Parts of pictures in other colours: they show what a layer makes of colour (ours)."""

from __future__ import annotations

import random

from PIL import Image

from reasonedit.evidence.windows import crop, shrink
from reasonedit.images.augment import Change, augment

PARTS, COLOURS = 2, 4
"""Parts of a picture, and the colours in which each is seen."""

_SIDES = (0.25, 0.5)
"""The least and the largest side of a part, as a share of the picture's."""
_OTHER_COLOURS = Change(filled=1.0, rotation=0.0, jitter=0.15, hue=0.5)


def colour_views(picture: Image.Image) -> list[Image.Image]:
    """Parts of a picture, each in several colours one after the other; the same of the same picture."""
    picture = shrink(picture)
    rng = random.Random(picture.tobytes())
    views = []
    for _ in range(PARTS):
        side = rng.uniform(*_SIDES)
        left, top = rng.uniform(0, 1 - side), rng.uniform(0, 1 - side)
        part = crop(picture, (left, top, left + side, top + side))
        views += [augment(part, rng, _OTHER_COLOURS) for _ in range(COLOURS)]
    return views
