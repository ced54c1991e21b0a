"""The vision half of an embedding: tokens of one layer, pooled over regions, transformed with fixed statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from reasonedit.boxes import WHOLE, Box
from reasonedit.errors import ReasonEditError
from reasonedit.vlm.vision import flat

TRANSFORMS = ("raw", "whitened", "discriminant")
POOLINGS = ("mean", "last")
QUERY_REGIONS: tuple[Box, ...] = tuple((c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3))
"""The nine regions of a query, on a grid of 3 x 3."""

_DIRECTIONS = 64
SHRINKAGE = 0.1
"""Share of the identity in the covariance within things: 0.001 to 0.1 did the same on development seeds."""


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

    def add(self, tokens: Tensor, cells: Tensor | None = None) -> None:
        """Add a picture.

        Args:
            tokens: (rows, columns, D), or (tokens, D) where they are no grid.
            cells: Mean tokens of its regions (9, D), where they are not pooled from these tokens.
        """
        read = tokens.float().cpu()
        self.wholes.append(pool(read, [WHOLE]))
        self.cells.append(pool(read, QUERY_REGIONS if read.dim() == 3 else [WHOLE]) if cells is None else cells)
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
        projection: (D, 64): the principal directions of the tokens, each divided by the standard deviation along it; or
            the directions that tell things apart, each divided by the standard deviation of one thing along it.
        scale: Root mean square distance of two unrelated pictures after the transform.
        cohort: The regions of the unrelated pictures after the transform, (9 * pictures, width).
    """

    mean: Tensor
    projection: Tensor
    scale: float
    cohort: Tensor

    @classmethod
    def of(cls, gathered: Gathered, transform: str, things: tuple[Tensor, Tensor] | None = None) -> Statistics:
        """Statistics of unrelated pictures for one transform.

        Args:
            gathered: What was seen of the unrelated pictures.
            transform: One of :data:`TRANSFORMS`.
            things: For ``"discriminant"``: mean tokens of pictures of things (N, D), and which thing each shows (N,).
        """
        cells = torch.cat(gathered.cells)
        if transform == "discriminant":
            assert things is not None
            mean, projection = cells.mean(0), _telling_apart(*things)
        else:
            mean, projection = _principal(gathered)
        unscaled = cls(mean, projection, 1.0, cells)
        pooled = torch.cat(gathered.wholes) if transform == "raw" else unscaled.apply(cells, transform)
        # The mean squared distance of two points is twice their mean squared distance from the mean.
        spread = 2 * (pooled - pooled.mean(0)).square().sum() / (len(pooled) - 1)
        scaled = cls(mean, projection, float(spread.sqrt()), cells)
        return replace(scaled, cohort=scaled.apply(cells, transform))

    def apply(self, pooled: Tensor, transform: str) -> Tensor:
        """Transform pooled tokens (N, D); those of unrelated pictures then lie at distance 1 of each other."""
        if transform == "raw":
            return pooled / self.scale
        return normalize((pooled - self.mean) @ self.projection, dim=-1) / self.scale


def _principal(gathered: Gathered) -> tuple[Tensor, Tensor]:
    """Mean token and principal directions of the tokens, each divided by the standard deviation along it."""
    mean, covariance = gathered.moments()
    count = min(_DIRECTIONS, len(mean), gathered.count - 1)
    values, directions = torch.linalg.eigh(covariance)
    # A direction in which nothing varies would be blown up: the floor keeps it small.
    deviation = values[-count:].clamp(min=float(values[-1]) * 1e-6).sqrt()
    return mean.float(), (directions[:, -count:] / deviation).float()


def _telling_apart(pooled: Tensor, things: Tensor) -> Tensor:
    """Fisher's linear discriminants (1936), the best first: the variance within things is 1 along each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    found = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE).fit(pooled.numpy(), things.numpy())
    return torch.from_numpy(found.scalings_[:, :_DIRECTIONS]).float()


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
