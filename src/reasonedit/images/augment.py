"""Changed copies of images (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from PIL import Image, ImageEnhance


@dataclass(frozen=True)
class Change:
    """How much a copy may differ from its image; the defaults are the paper's.

    Attributes:
        filled: Share of the copy's area that the image fills; around it is a mosaic border.
        rotation: Degrees, to either side.
        jitter: Share by which brightness, contrast and saturation change.
        hue: Share of its circle by which the hue turns.
    """

    filled: float = 0.9
    rotation: float = 10.0
    jitter: float = 0.1
    hue: float = 0.05


PAPER_CHANGE = Change()
STRONG_CHANGE = Change(filled=0.5, jitter=0.4, hue=0.1)
"""As much as leaves a picture recognisable, but no longer of the same colours, size and place."""


def augment(image: Image.Image, rng: random.Random, change: Change = PAPER_CHANGE) -> Image.Image:
    """A copy of an image at a random place within a mosaic border, rotated, with jittered colours.

    Returns:
        The copy, of the image's size.
    """
    copy = image
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        copy = enhance(copy).enhance(1 + rng.uniform(-change.jitter, change.jitter))
    turn = round(256 * rng.uniform(-change.hue, change.hue))
    hue, saturation, value = copy.convert("HSV").split()
    copy = Image.merge("HSV", (hue.point(lambda x: (x + turn) % 256), saturation, value)).convert("RGB")
    border = copy.resize((8, 8), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    side = math.sqrt(change.filled)
    size = (max(1, round(image.width * side)), max(1, round(image.height * side)))
    inner = copy.resize(size, Image.Resampling.BILINEAR).convert("RGBA")
    inner = inner.rotate(rng.uniform(-change.rotation, change.rotation), Image.Resampling.BILINEAR)
    x, y = rng.randint(0, image.width - size[0]), rng.randint(0, image.height - size[1])
    border.paste(inner, (x, y), inner)
    return border
