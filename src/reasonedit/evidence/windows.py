"""Candidate windows of an image, and boxes in relative coordinates."""

from __future__ import annotations

import math

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import InputError

LARGEST_SIDE = 512
"""Pixels: larger images are shrunk before windows are cut out."""

_SHAPES: dict[int, tuple[tuple[int, int], ...]] = {
    3: ((1, 1), (1, 2), (2, 1), (2, 2), (2, 3), (3, 2)),
    4: ((1, 1), (1, 2), (2, 1), (2, 2)),
}
"""For each grid the shapes of windows, rows and columns of cells."""

GRIDS = tuple(_SHAPES)
THIRDS: tuple[Box, ...] = tuple((c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3))
"""The nine windows of which a single one is kept."""


def check_grid(grid: int) -> None:
    """Refuse a grid that has no windows.

    Raises:
        InputError: It is none of :data:`GRIDS`.
    """
    if grid not in GRIDS:
        raise InputError(f"grid must be {' or '.join(map(str, GRIDS))}, not {grid}.")


def windows_of(size: tuple[int, int], grid: int = 3) -> list[Box]:
    """Candidate windows on a grid (section 2 of the method; arXiv 2602.02408), the smallest first, in raster order.

    On a landscape image windows with more columns than rows are left out, on a portrait image those with more rows.

    Args:
        size: Width and height of the image in pixels.
        grid: 3 (up to 29 windows) or 4 (up to 49).

    Raises:
        InputError: The grid is neither.

    >>> len(windows_of((96, 96))), len(windows_of((640, 480))), len(windows_of((96, 96), grid=4))
    (29, 21, 49)
    """
    check_grid(grid)
    width, height = size
    boxes = []
    for rows, columns in sorted(_SHAPES[grid], key=math.prod):
        if (width > height and columns > rows) or (height > width and rows > columns):
            continue
        for row in range(grid - rows + 1):
            for column in range(grid - columns + 1):
                boxes.append((column / grid, row / grid, (column + columns) / grid, (row + rows) / grid))
    return boxes


def area(box: Box) -> float:
    """Share of the image that a box covers."""
    left, top, right, bottom = box
    return round((right - left) * (bottom - top), 9)


def shrink(image: Image.Image) -> Image.Image:
    """Bring an image down to sides of at most :data:`LARGEST_SIDE` pixels; a smaller one stays as it is."""
    longest = max(image.size)
    if longest <= LARGEST_SIDE:
        return image
    scale = LARGEST_SIDE / longest
    return image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))


def crop(image: Image.Image, box: Box) -> Image.Image:
    """Cut a box out of an image: at least one pixel."""
    left, top, right, bottom = (round(x * side) for x, side in zip(box, (image.width, image.height) * 2, strict=True))
    left, top = min(left, image.width - 1), min(top, image.height - 1)
    return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
