"""Choosing a layer from unlabelled pictures: how well two views of a picture find each other among others (ours).

A codebook has to find again what a part of a picture shows, in other colours, at another place and size. So quarters of
the pictures get two augmented views each, and a layer is as good as the share of second views that are nearest, of all
first views, to that of their own quarter. The views are changed so strongly that no layer finds all: with copies as
little changed as those by which radii are measured, good layers could not be told apart.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from PIL import Image
from torch import Tensor

from reasonedit.boxes import Box
from reasonedit.errors import InputError
from reasonedit.evidence.windows import crop, shrink
from reasonedit.images.augment import STRONG_CHANGE, augment
from reasonedit.vlm import VLM

from .layer_passes import LayerPasses, make_ahead
from .statistics import Statistics

LEAST_PICTURES = 4
"""Fewer pictures do not tell layers apart."""

_MOST_WINDOWS = 256
"""Windows that are looked at, twice each."""
_QUARTERS: tuple[Box, ...] = tuple((x / 2, y / 2, (x + 1) / 2, (y + 1) / 2) for y in (0, 1) for x in (0, 1))


@dataclass(frozen=True)
class ViewScore:
    """How well the views of a window find each other in one layer after one transform.

    Attributes:
        layer: The layer.
        transform: The transform.
        found: Share of second views that are nearest to the first view of their own window.
        auc: Share of the other first views that are farther from a second view than its own, ties half.
        margin: By how many standard deviations of the distances to others its own is nearer than they are on average.
    """

    layer: str
    transform: str
    found: float
    auc: float
    margin: float

    @property
    def rank(self) -> tuple[float, float, float]:
        """By what scores are compared: pictures found, then the two that still differ where all are found."""
        return self.found, self.auc, self.margin


def score_views(distances: Tensor, own: Tensor) -> tuple[float, float, float]:
    """``found``, ``auc`` and ``margin`` of :class:`ViewScore`.

    Args:
        distances: From each second view to each first view, (views, pictures).
        own: The picture of each second view, (views,).
    """
    mine = distances.gather(1, own[:, None])
    is_other = torch.ones_like(distances, dtype=torch.bool).scatter_(1, own[:, None], False)
    others = distances[is_other].view(len(distances), -1)
    nearer, as_near = (others < mine).sum(1), (others == mine).sum(1)
    found = (nearer == 0) / (1 + as_near)
    auc = 1 - (nearer + 0.5 * as_near) / others.shape[1]
    margin = (others.mean(1) - mine[:, 0]) / others.std(1).clamp(min=1e-12)
    return float(found.mean()), float(auc.mean()), float(margin.mean())


def score_layers(
    vlm: VLM,
    pictures: Sequence[Image.Image],
    *,
    transforms: Sequence[str] = ("raw",),
    layers: Sequence[str] | None = None,
    pooling: str = "mean",
    seed: int = 0,
) -> list[ViewScore]:
    """Score layers by unlabelled pictures: some 500 passes, whatever the number of layers, and one more per picture.

    Args:
        vlm: The VLM.
        pictures: The pictures, at least 4; up to 256 are looked at.
        transforms: ``"raw"``, ``"whitened"`` or both; whitened by the pictures themselves.
        layers: The vision-side layers; all when not given.
        pooling: ``"mean"`` over tokens, or the ``"last"`` token.
        seed: Seed of the views.

    Returns:
        The scores in the order of the layers; the best is ``max(scores, key=lambda score: score.rank)``.

    Raises:
        InputError: There are too few pictures, or a layer has no such transform.
    """
    if len(pictures) < LEAST_PICTURES:
        raise InputError(f"A layer is chosen by {LEAST_PICTURES} pictures or more, not by {len(pictures)}.")
    passes = LayerPasses(vlm, layers or vlm.vision_layers, pooling)
    views = ViewPasses(passes, pictures, seed)
    whitens = any(transform != "raw" for transform in transforms)
    moments = passes.pool_with_moments(views.pictures)[1] if whitens else {}
    return [
        views.score(layer, transform, Statistics.of(moments[layer], transform) if transform != "raw" else None)
        for layer in passes.layers
        for transform in transforms
    ]


class ViewPasses:
    """Two views of each window of some pictures, as all layers see them; of the tokens only means are kept.

    Args:
        passes: Runs the vision part.
        pictures: The pictures.
        seed: Seed of the views.

    Attributes:
        pictures: Those that are looked at.
    """

    def __init__(self, passes: LayerPasses, pictures: Sequence[Image.Image], seed: int) -> None:
        step = -(-len(pictures) // _MOST_WINDOWS)
        self.pictures = list(pictures[::step])
        self._seed = seed
        self._first, self._second = (passes.pool(make_ahead(self._jobs(which))) for which in (0, 1))

    def _jobs(self, which: int) -> list[Callable[[], Image.Image]]:
        """What makes one view of each window: a quarter of each picture, then another, until there are enough."""
        rng = random.Random(self._seed)
        orders = [rng.sample(_QUARTERS, len(_QUARTERS)) for _ in self.pictures]
        windows = [(number, box) for boxes in zip(*orders, strict=True) for number, box in enumerate(boxes)]
        return [partial(self._view, number, box, which) for number, box in windows[:_MOST_WINDOWS]]

    def _view(self, number: int, box: Box, which: int) -> Image.Image:
        rng = random.Random(f"{self._seed}-{number}-{box}-{which}")
        return augment(crop(shrink(self.pictures[number]), box), rng, STRONG_CHANGE)

    def score(self, layer: str, transform: str, statistics: Statistics | None) -> ViewScore:
        """Score a layer and transform by statistics of unrelated pictures, which ``"raw"`` does without."""
        first, second = self._first[layer], self._second[layer]
        if statistics is not None:
            first, second = statistics.apply(first, transform), statistics.apply(second, transform)
        distances = torch.cdist(second.double(), first.double())
        return ViewScore(layer, transform, *score_views(distances, torch.arange(len(distances))))
