"""The vision half of an embedding: tokens of one layer, pooled over regions, transformed with fixed statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from reasonedit.edits import WHOLE, Box
from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image
from reasonedit.vlm.vision import flat

TRANSFORMS = ("raw", "centred", "whitened")
POOLINGS = ("mean", "last")
CELLS: tuple[Box, ...] = tuple((c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3))
"""The nine regions of a query, pooled from the tokens of its one vision pass."""

_DIRECTIONS = 64
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


class Gathered:
    """What statistics are made of, gathered picture by picture: tokens are not kept.

    Attributes:
        count: Number of tokens.
        wholes: Mean token of each picture, (1, D).
        cells: Mean tokens of its nine regions, (9, D); of the whole where the tokens are no grid.
    """

    def __init__(self) -> None:
        self.count = 0
        self.wholes: list[Tensor] = []
        self.cells: list[Tensor] = []
        self._shift = self._sum = self._squares = torch.empty(0)

    def add(self, tokens: Tensor) -> None:
        """Add a picture: (rows, columns, D), or (tokens, D) where they are no grid."""
        read = tokens.float().cpu()
        self.wholes.append(pool(read, [WHOLE]))
        self.cells.append(pool(read, CELLS if read.dim() == 3 else [WHOLE]))
        rows = flat(read).double()
        if not self.count:  # the moments are taken about the first picture's mean, so that little cancels
            self._shift = rows.mean(0)
            self._sum = torch.zeros_like(self._shift)
            self._squares = torch.zeros(len(self._shift), len(self._shift), dtype=torch.float64)
        rows -= self._shift
        self.count += len(rows)
        self._sum += rows.sum(0)
        self._squares += rows.T @ rows

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of all tokens, in double precision."""
        mean = self._sum / self.count
        covariance = (self._squares - self.count * mean.outer(mean)) / (self.count - 1)
        return mean + self._shift, covariance


@dataclass(frozen=True)
class Statistics:
    """What unrelated pictures have in common in one layer, and how far apart they are.

    Attributes:
        mean: Mean token, (D,).
        projection: (D, 64): the principal directions of the tokens, each divided by the standard deviation along it.
        scale: Root mean square distance of two unrelated pictures after the transform.
    """

    mean: Tensor
    projection: Tensor
    scale: float

    @classmethod
    def of(cls, gathered: Gathered, transform: str) -> Statistics:
        """Statistics of unrelated pictures for one transform."""
        mean, covariance = gathered.moments()
        count = min(_DIRECTIONS, len(mean), gathered.count - 1)
        values, directions = torch.linalg.eigh(covariance)
        # A direction in which nothing varies would be blown up: the floor keeps it small.
        deviation = values[-count:].clamp(min=float(values[-1]) * 1e-6).sqrt()
        unscaled = cls(mean.float(), (directions[:, -count:] / deviation).float(), 1.0)
        pooled = torch.cat(gathered.wholes)
        if transform != "raw":
            pooled = unscaled.apply(torch.cat(gathered.cells), transform)
        # The mean squared distance of two points is twice their mean squared distance from the mean.
        spread = 2 * (pooled - pooled.mean(0)).square().sum() / (len(pooled) - 1)
        return cls(unscaled.mean, unscaled.projection, float(spread.sqrt()))

    def apply(self, pooled: Tensor, transform: str) -> Tensor:
        """Transform pooled tokens (N, D); those of unrelated pictures then lie at distance 1 of each other."""
        if transform == "raw":
            return pooled / self.scale
        centred = pooled - self.mean
        return normalize(centred if transform == "centred" else centred @ self.projection, dim=-1) / self.scale


def pool(tokens: Tensor, boxes: Sequence[Box], view: Box = WHOLE) -> Tensor:
    """Mean token of each region of an image.

    Args:
        tokens: (rows, columns, D); of (tokens, D), which are no grid, only the whole image can be pooled.
        boxes: The regions.
        view: The part of the image that the grid shows; of a region that lies outside, its nearest edge is pooled.

    Returns:
        (boxes, D).

    Raises:
        ReasonEditError: A region is asked for and the layer's tokens are no grid.
    """
    pooled = []
    for box in boxes:
        if box == WHOLE:
            pooled.append(flat(tokens).mean(0))
            continue
        if tokens.dim() != 3:
            raise ReasonEditError("The tokens of this layer are no grid of the image: it has no regions. Name another.")
        rows, columns = tokens.shape[:2]
        start, end = _cells(box[0], box[2], view[0], view[2], columns)
        first, last = _cells(box[1], box[3], view[1], view[3], rows)
        pooled.append(flat(tokens[first:last, start:end]).mean(0))
    return torch.stack(pooled)


def _cells(low: float, high: float, seen_low: float, seen_high: float, count: int) -> tuple[int, int]:
    """The cells, of those that share a stretch of the image, which another stretch covers; at least one."""
    start, end = ((x - seen_low) / (seen_high - seen_low) * count for x in (low, high))
    first = min(max(round(start), 0), count - 1)
    return first, min(max(round(end), first + 1), count)


def reference_images(source: str) -> list[Image.Image]:
    """Unrelated pictures from which statistics are taken.

    Args:
        source: ``"patterns"`` (128 fixed colourful patterns, the same on every machine), ``"world"`` (150 scenes of the
            embedded world), or a folder of images, of which the first 500 by name are used.

    Raises:
        ReasonEditError: The folder holds fewer than two images, or one that cannot be read.
    """
    if source == "patterns":
        rng = np.random.default_rng(0)
        coarse = (Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(128))
        return [image.resize((96, 96), Image.Resampling.BICUBIC) for image in coarse]
    if source == "world":
        from reasonedit.data.world.scenes import unrelated_scenes

        return [scene.render() for scene in unrelated_scenes(150)]
    paths = sorted(p for p in Path(source).glob("*") if p.suffix.lower() in _SUFFIXES)[:500]
    if len(paths) < 2:
        raise ReasonEditError(
            f"There are no reference images in '{source}': give 'patterns', 'world' or a folder of some pictures."
        )
    return [load_image(p) for p in paths]
