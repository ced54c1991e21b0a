"""How far a key reaches, and when two keys are one (section 3 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math
import random

from PIL import Image, ImageEnhance

_FILLED = 0.9
_ROTATION = 10.0
_JITTER, _HUE = 0.1, 0.05
_NEAR, _OVERLAP = 0.1, 0.9
REACH = 0.16
"""Keys farther apart than this share of the smaller radius never merge: two equal circles overlap by 90 % at 0.157."""


def overlap(a: float, b: float, d: float) -> float:
    """The area that two circles share, divided by the area of the larger one.

    Args:
        a: Radius of one.
        b: Radius of the other.
        d: Distance between their centres.

    >>> round(overlap(1.0, 1.0, 0.0), 6), round(overlap(1.0, 0.5, 0.1), 6), overlap(1.0, 1.0, 2.0)
    (1.0, 0.25, 0.0)
    """
    small, large = sorted((a, b))
    if large <= 0:
        return 1.0 if d == 0 else 0.0
    if d >= a + b:
        return 0.0
    if d <= large - small:
        return (small / large) ** 2
    first = small**2 * math.acos(max(-1.0, min(1.0, (d * d + small**2 - large**2) / (2 * d * small))))
    second = large**2 * math.acos(max(-1.0, min(1.0, (d * d + large**2 - small**2) / (2 * d * large))))
    triangle = 0.5 * math.sqrt(
        max(0.0, (small + large - d) * (d + small - large) * (d - small + large) * (d + small + large))
    )
    return (first + second - triangle) / (math.pi * large**2)


def merges(a: float, b: float, d: float) -> bool:
    """Whether a new key of radius ``a`` merges into one of radius ``b`` at distance ``d``."""
    return (d < _NEAR * a and d < _NEAR * b) or overlap(a, b, d) > _OVERLAP


def augment(image: Image.Image, rng: random.Random) -> Image.Image:
    """A rotated copy of an image with jittered colours and a mosaic border.

    The image fills 90 % of the copy's area, at a random place. It is rotated by up to 10 degrees. Brightness, contrast
    and saturation change by up to 0.1, the hue by up to 0.05 of its circle.

    Returns:
        The copy, of the image's size.
    """
    copy = image
    for enhance in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        copy = enhance(copy).enhance(1 + rng.uniform(-_JITTER, _JITTER))
    turn = round(256 * rng.uniform(-_HUE, _HUE))
    hue, saturation, value = copy.convert("HSV").split()
    copy = Image.merge("HSV", (hue.point(lambda x: (x + turn) % 256), saturation, value)).convert("RGB")
    border = copy.resize((8, 8), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)
    side = math.sqrt(_FILLED)
    size = (max(1, round(image.width * side)), max(1, round(image.height * side)))
    inner = copy.resize(size, Image.Resampling.BILINEAR).convert("RGBA")
    inner = inner.rotate(rng.uniform(-_ROTATION, _ROTATION), Image.Resampling.BILINEAR)
    x, y = rng.randint(0, image.width - size[0]), rng.randint(0, image.height - size[1])
    border.paste(inner, (x, y), inner)
    return border
