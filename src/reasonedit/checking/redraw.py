"""A picture redrawn: the same content, so that an edit must hold for it too."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from PIL import Image, ImageOps

from reasonedit.images.augment import Change, augment
from reasonedit.sentences import named_place

_SIDES = re.compile(
    r"\b(left|right|west|east|clockwise|mirror\w*|read\w*|writ\w*|letter\w*|text|number)\b", re.IGNORECASE
)
"""Words of questions and sentences that mean something else, or nothing, in a mirror."""
_COLOUR = Change(filled=1.0, rotation=0.0, jitter=0.25, hue=0.02)
"""No more than leaves every colour its name."""
_SMALLER = Change(filled=0.8, rotation=4.0, jitter=0.05, hue=0.0)
_HALF = Change(filled=0.5, rotation=0.0, jitter=0.1, hue=0.0)
_CUT = 0.06
"""Share of each side that is cut off at most: what lies at the border is still there."""


def redraw(image: Image.Image, texts: Sequence[str], rng: random.Random) -> dict[str, Image.Image]:
    """Redraw a picture in ways that leave what it shows.

    Args:
        image: The picture, in RGB.
        texts: What is asked and said of it: it is mirrored only where none of these speaks of left or right, or of
            what can be read.
        rng: Source of randomness.

    Returns:
        Copies of the picture's size, by what was done: ``"recoloured"``, ``"smaller"``, ``"cropped"``, ``"mirrored"``,
        and ``"half as large"``, where no text names a place in the picture.
    """
    copies = {
        "recoloured": augment(image, rng, _COLOUR),
        "smaller": augment(image, rng, _SMALLER),
        "cropped": _crop(image, rng),
    }
    if not any(_SIDES.search(text) for text in texts):
        copies["mirrored"] = ImageOps.mirror(image)
    if all(named_place(text) is None for text in texts):
        copies["half as large"] = augment(image, rng, _HALF)
    return copies


def _crop(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture without a narrow strip at each side, at its own size again."""
    cuts = [rng.uniform(0, _CUT) * side for side in (image.width, image.height, image.width, image.height)]
    box = (cuts[0], cuts[1], image.width - cuts[2], image.height - cuts[3])
    return image.resize(image.size, Image.Resampling.BICUBIC, box=box)
