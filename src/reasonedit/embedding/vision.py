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

from reasonedit.edits import Box
from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image

TRANSFORMS = ("raw", "centred", "whitened")
POOLINGS = ("mean", "last")
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
CELLS: tuple[Box, ...] = tuple((c / 3, r / 3, (c + 1) / 3, (r + 1) / 3) for r in range(3) for c in range(3))
"""The nine regions of a query, pooled from the tokens of its one vision pass."""

_DIRECTIONS = 64
_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


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
    def of(cls, tokens: Tensor, grid: tuple[int, int] | None, transform: str) -> Statistics:
        """Statistics of the tokens (pictures, tokens, D) of unrelated pictures."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        mean = flat.mean(0)
        count = min(_DIRECTIONS, flat.shape[1], len(flat) - 1)
        values, directions = torch.linalg.eigh(torch.cov(flat.double().T))
        # A direction in which nothing varies would be blown up: the floor keeps it small.
        deviation = values[-count:].clamp(min=float(values[-1]) * 1e-6).sqrt()
        unscaled = cls(mean, (directions[:, -count:] / deviation).float(), 1.0)
        if transform == "raw":
            pooled = tokens.mean(1)
        else:
            cells = [pool(t, grid, CELLS) if grid else t.mean(0, keepdim=True) for t in tokens]
            pooled = unscaled.apply(torch.cat(cells), transform)
        # The mean squared distance of two points is twice their mean squared distance from the mean.
        spread = 2 * (pooled - pooled.mean(0)).square().sum() / (len(pooled) - 1)
        return cls(mean, unscaled.projection, float(spread.sqrt()))

    def apply(self, pooled: Tensor, transform: str) -> Tensor:
        """Transform pooled tokens (N, D); those of unrelated pictures then lie at distance 1 of each other."""
        if transform == "raw":
            return pooled / self.scale
        centred = pooled - self.mean
        return normalize(centred if transform == "centred" else centred @ self.projection, dim=-1) / self.scale


def pool(tokens: Tensor, grid: tuple[int, int] | None, boxes: Sequence[Box]) -> Tensor:
    """Mean token of each region of an image.

    Args:
        tokens: (rows x columns, D), in raster order.
        grid: Rows and columns; without them only the whole image can be pooled.
        boxes: The regions.

    Returns:
        (boxes, D).

    Raises:
        ReasonEditError: A region is asked for and the layer's tokens are no grid.
    """
    pooled = []
    for left, top, right, bottom in boxes:
        if (left, top, right, bottom) == WHOLE:
            pooled.append(tokens.mean(0))
            continue
        if grid is None:
            raise ReasonEditError("The tokens of this layer are no grid of the image: it has no regions. Name another.")
        rows, columns = grid
        first, start = min(round(top * rows), rows - 1), min(round(left * columns), columns - 1)
        part = tokens.view(rows, columns, -1)[
            first : max(round(bottom * rows), first + 1), start : max(round(right * columns), start + 1)
        ]
        pooled.append(part.reshape(-1, tokens.shape[-1]).mean(0))
    return torch.stack(pooled)


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
