"""Candidate windows of an image, and boxes in relative coordinates."""

from __future__ import annotations

import math

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import ReasonEditError

LARGEST_SIDE = 512
"""Larger images are shrunk before windows are cut out."""

_SHAPES: dict[int, tuple[tuple[int, int], ...]] = {
    3: ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)),
    4: ((1, 1), (1, 2), (2, 1), (2, 2)),
}
GRIDS = tuple(_SHAPES)


def windows_of(size: tuple[int, int], grid: int = 3) -> list[Box]:
    """Candidate windows on a grid (section 2 of the method; arXiv 2602.02408), the smallest first, in raster order.

    On a landscape image those wider than high (in cells) are left out, on a portrait image those higher than wide.

    Args:
        size: Width and height of the image in pixels.
        grid: 3 (up to 29 windows) or 4 (up to 49).

    Raises:
        ReasonEditError: The grid is neither.

    >>> len(windows_of((96, 96))), len(windows_of((640, 480))), len(windows_of((96, 96), grid=4))
    (29, 21, 49)
    """
    if grid not in _SHAPES:
        raise ReasonEditError(f"grid must be {' or '.join(map(str, GRIDS))}, not {grid}.")
    width, height = size
    found = []
    for rows, columns in sorted(_SHAPES[grid], key=math.prod):
        if (width > height and columns > rows) or (height > width and rows > columns):
            continue
        for row in range(grid - rows + 1):
            for column in range(grid - columns + 1):
                found.append((column / grid, row / grid, (column + columns) / grid, (row + rows) / grid))
    return found


def area(box: Box) -> float:
    """Share of the image that a box covers."""
    left, top, right, bottom = box
    return round((right - left) * (bottom - top), 9)


def shrunk(image: Image.Image) -> Image.Image:
    """The image with no side above :data:`LARGEST_SIDE`."""
    longest = max(image.size)
    if longest <= LARGEST_SIDE:
        return image
    scale = LARGEST_SIDE / longest
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def crop(image: Image.Image, box: Box) -> Image.Image:
    """What of an image a box shows: at least one pixel."""
    left, top, right, bottom = (round(x * side) for x, side in zip(box, (image.width, image.height) * 2, strict=True))
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
