"""Regions of an image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from reasonedit.errors import InputError

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the upright image's width and height, from 0 to 1."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of the whole image."""

Region = Box | Image.Image
"""Evidence that a person gives: a box of the image, or another picture."""


def check_box(box: Sequence[float | str]) -> Box:
    """Check a box, and give it back as a tuple of floats.

    Raises:
        InputError: It is not four numbers, reaches outside the image, or has no area.
    """
    try:
        left, top, right, bottom = (float(x) for x in box)
    except (TypeError, ValueError) as error:
        raise InputError(f"The box {box!r} is not four numbers: left, top, right, bottom.") from error
    if not all(0 <= x <= 1 for x in (left, top, right, bottom)):
        raise InputError(
            f"The box ({left:g}, {top:g}, {right:g}, {bottom:g}) reaches outside the image: left, top, right and "
            "bottom are shares of its width and height, from 0 to 1."
        )
    if left >= right or top >= bottom:
        raise InputError(
            f"The box ({left:g}, {top:g}, {right:g}, {bottom:g}) has no area: left must be smaller than right and top "
            "smaller than bottom."
        )
    return left, top, right, bottom
