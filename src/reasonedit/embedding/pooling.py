"""From the tokens of one layer to one vector per region of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from reasonedit.boxes import WHOLE, Box
from reasonedit.errors import InputError
from reasonedit.util.finite import check_finite
from reasonedit.vlm.vision import flat

POOLINGS = ("mean", "last")
_SIDE, _STEP = 0.4, 0.3
QUERY_REGIONS: tuple[Box, ...] = tuple(
    (_STEP * c, _STEP * r, _STEP * c + _SIDE, _STEP * r + _SIDE) for r in range(3) for c in range(3)
)
"""The nine regions of a query. They overlap: what lies across the edge of one is mostly whole in another."""


def pool(tokens: Tensor, boxes: Sequence[Box], view: Box = WHOLE) -> Tensor:
    """Mean token of each region of an image.

    Args:
        tokens: (rows, columns, D), or (tokens, D), which are no grid: only the whole image can be pooled from them.
        boxes: The regions.
        view: The part of the image that the grid shows. Of a region that lies outside of it the nearest edge is pooled.

    Returns:
        (boxes, D).

    Raises:
        InputError: A region is asked for and the layer's tokens are no grid.
    """
    means = []
    for box in boxes:
        if box == WHOLE:
            means.append(flat(tokens).mean(0))
            continue
        if tokens.dim() != 3:
            raise InputError("The tokens of this layer are not a grid of the image: it has no regions. Name another.")
        rows, columns = tokens.shape[:2]
        left, right = _covered_cells((box[0], box[2]), (view[0], view[2]), columns)
        top, bottom = _covered_cells((box[1], box[3]), (view[1], view[3]), rows)
        means.append(flat(tokens[top:bottom, left:right]).mean(0))
    return torch.stack(means)


def tokens_to_pool(tokens: Tensor, pooling: str) -> Tensor:
    """The tokens that count for one of :data:`POOLINGS`: all of them as they are, or the last alone, (1, D)."""
    return flat(tokens)[-1:] if pooling == "last" else tokens


def check_activations(tensor: Tensor, layer: str) -> Tensor:
    """Numbers that come of a layer's activations, where they are finite: else they would be nearest to everything.

    Raises:
        InputError: Some are not.
    """
    return check_finite(tensor, f"The activations of the layer '{layer}'")


def _covered_cells(stretch: tuple[float, float], view: tuple[float, float], count: int) -> tuple[int, int]:
    """The cells of one axis that a stretch of it covers; at least one.

    Args:
        stretch: Start and end, as shares of the image.
        view: Start and end of what the cells show, as shares of the image.
        count: Number of cells.

    Returns:
        The first cell, and the one after the last.
    """
    start, end = ((x - view[0]) / (view[1] - view[0]) * count for x in stretch)
    first = min(max(round(start), 0), count - 1)
    return first, min(max(round(end), first + 1), count)
