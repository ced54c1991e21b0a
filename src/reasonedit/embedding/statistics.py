"""What unrelated pictures have in common in one layer: it fixes how pooled tokens are transformed and scaled."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from reasonedit.boxes import WHOLE
from reasonedit.errors import InputError

from .pooling import QUERY_REGIONS, pool
from .unrelated import Unrelated

TRANSFORMS = ("raw", "whitened", "discriminant")
SHRINKAGE = 0.1
"""Share of the identity in the covariance within things: 0.001 to 0.1 did the same on development seeds."""

_DIRECTIONS = 96
"""On development seeds fewer found fewer unknown things again, more fewer known ones: of 64, 96, 128 and all 576 of
the embedded VLM."""
_DISCRIMINANTS = 64
"""How many of the directions that tell labelled things apart are kept, the best ones."""
_VIEWS = 10.0
"""How much the variance of one part by its views weighs, beside that of regions: 3 to 100 did the same on development
seeds, 0 found fewer things again."""
_FLOOR = 0.01
"""What is added to each variance, as a share of the mean variance along the directions."""


class ReferenceTokens:
    """What statistics are made of, added picture by picture: of the tokens only means stay.

    Attributes:
        wholes: Mean token of each picture, (1, D).
        regions: Mean tokens of its nine regions, (9, D); of the whole where the tokens are no grid.
        views: Mean tokens of some parts of it, each in several views: (parts, views, D). None where it was seen once.
    """

    def __init__(self) -> None:
        self.wholes: list[Tensor] = []
        self.regions: list[Tensor] = []
        self.views: list[Tensor] = []

    def add(self, tokens: Tensor, regions: Tensor | None = None, views: Tensor | None = None) -> None:
        """Add a picture.

        Args:
            tokens: (rows, columns, D), or (tokens, D) where they are no grid.
            regions: Mean tokens of its regions (9, D), where they are not pooled from these tokens.
            views: Mean tokens of parts of it in several views (parts, views, D), where there are some.
        """
        tokens = tokens.float().cpu()
        self.wholes.append(pool(tokens, [WHOLE]))
        if regions is None:
            regions = pool(tokens, QUERY_REGIONS if tokens.dim() == 3 else [WHOLE])
        self.regions.append(regions)
        if views is not None:
            self.views.append(views)

    def merge(self, other: ReferenceTokens) -> None:
        """Add the pictures of another one, behind those that are there."""
        self.wholes += other.wholes
        self.regions += other.regions
        self.views += other.views

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, to be sent to another process; nothing where nothing was."""
        parts = {"wholes": self.wholes, "regions": self.regions, "views": self.views}
        return {name: torch.stack(of_pictures) for name, of_pictures in parts.items() if of_pictures}

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> ReferenceTokens:
        """What :meth:`tensors` made."""
        reference = cls()
        for name, of_pictures in tensors.items():
            setattr(reference, name, list(of_pictures))
        return reference


@dataclass(frozen=True, eq=False)
class Statistics:
    """What unrelated pictures have in common in one layer, and how far apart they are.

    Attributes:
        mean: Mean token, (D,).
        projection: (D, up to 96): the principal directions of regions, each divided by how much it varies; or the
            directions that tell things apart, each divided by the standard deviation of one thing along it.
        scale: Root mean square distance of two unrelated pictures after the transform.
        cohort: The regions of the unrelated pictures after the transform, (9 * pictures, width).
        unrelated: How near these pictures come to each other; ``None`` where that was not measured, as in codebooks of
            earlier versions.
    """

    mean: Tensor
    projection: Tensor
    scale: float
    cohort: Tensor
    unrelated: Unrelated | None = None

    @classmethod
    def of(cls, reference: ReferenceTokens, transform: str, things: tuple[Tensor, Tensor] | None = None) -> Statistics:
        """Statistics of unrelated pictures for one transform.

        Args:
            reference: The unrelated pictures.
            transform: One of :data:`TRANSFORMS`.
            things: For ``"discriminant"``: mean tokens of pictures of things (N, D), and which thing each shows (N,).
        """
        regions = torch.cat(reference.regions)
        if transform == "discriminant":
            if things is None:
                raise InputError(
                    "The transform 'discriminant' learns from pictures of things: without them use raw or whitened."
                )
            mean, projection = regions.mean(0), _discriminants(*things)
        else:
            mean, projection = _whitening(reference, regions)
        unscaled = cls(mean, projection, 1.0, regions)
        pooled = torch.cat(reference.wholes) if transform == "raw" else unscaled.apply(regions, transform)
        scaled = cls(mean, projection, distance_apart(pooled), regions)
        return replace(scaled, cohort=scaled.apply(regions, transform))

    def compared(self, reference: ReferenceTokens, transform: str) -> Statistics:
        """The same, with how near the unrelated pictures come to each other; arguments as for :meth:`of`."""
        wholes, regions = torch.cat(reference.wholes), torch.cat(reference.regions)
        transformed = self.apply(wholes, transform), self.cohort
        return replace(self, unrelated=Unrelated.of(transformed, (self.along(wholes), self.along(regions))))

    def along(self, pooled: Tensor) -> Tensor:
        """Pooled tokens (N, D) along the directions of :attr:`projection`: (N, width), not brought to one length."""
        return (pooled - self.mean) @ self.projection

    def apply(self, pooled: Tensor, transform: str) -> Tensor:
        """Transform pooled tokens (N, D); those of unrelated pictures then lie at distance 1 of each other."""
        if transform == "raw":
            return pooled / self.scale
        return normalize(self.along(pooled), dim=-1) / self.scale


def distance_apart(pooled: Tensor) -> float:
    """Root mean square distance of two of some vectors (N, D): twice the mean squared distance from their mean."""
    return float((2 * (pooled - pooled.mean(0)).square().sum() / (len(pooled) - 1)).sqrt())


def _whitening(reference: ReferenceTokens, regions: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of regions, and directions by which they are told apart, each divided by how much it varies anyway.

    Whitening makes every direction count alike. Here a direction in which a part of a picture moves with its place,
    size and colours counts less: a thing is to be known again elsewhere, larger and in other colours
    (:data:`_VIEWS`). And what hardly varies is not blown up (:data:`_FLOOR`).
    """
    mean = regions.double().mean(0)
    rows = (regions - mean) / math.sqrt(max(1, len(regions) - 1))
    spread = float(rows.square().sum())
    if reference.views:
        views = torch.stack(reference.views).flatten(0, 1).double()  # (parts, views, D)
        moved = (views - views.mean(1, keepdim=True)).flatten(0, 1)
        freedom = len(moved) - len(views)
        rows = torch.cat([rows, math.sqrt(_VIEWS / max(1, freedom)) * moved])
    values, directions = _principal(rows, min(_DIRECTIONS, regions.shape[1]))
    floor = max(_FLOOR * spread / len(values), torch.finfo(torch.float32).tiny)
    return mean.float(), (directions / (values + floor).sqrt()).float()


def _principal(rows: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest eigenvalues of ``rows.T @ rows`` and their directions (D, count), by the smaller of two products.

    Where there are fewer rows than dimensions, there are as many directions as rows at most; one along which no row
    lies is 0.
    """
    if len(rows) >= rows.shape[1]:
        values, directions = torch.linalg.eigh(rows.T @ rows)
        return values[-count:].clamp(min=0), directions[:, -count:]
    values, mixtures = torch.linalg.eigh(rows @ rows.T)
    count = min(count, len(values))
    least = max(float(values[-1]) * torch.finfo(values.dtype).eps, torch.finfo(values.dtype).tiny)
    values = values[-count:].clamp(min=least)  # rounding leaves something of each: it is not to be blown up
    return values, rows.T @ mixtures[:, -count:] / values.sqrt()


def _discriminants(pooled: Tensor, things: Tensor) -> Tensor:
    """Fisher's linear discriminants (1936), the best first: the variance within things is 1 along each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE).fit(pooled.numpy(), things.numpy())
    return torch.from_numpy(analysis.scalings_[:, :_DISCRIMINANTS]).float()


_AXES = {"mean": 1, "projection": 2, "scale": 0, "cohort": 2}
_AXES_UNRELATED = {"scores": 1, "wholes": 2, "regions": 2, "spread": 2}


def tensors_of(statistics: Statistics) -> dict[str, Tensor]:
    """Statistics as tensors, to be stored."""
    tensors = {
        "mean": statistics.mean,
        "projection": statistics.projection,
        "scale": torch.tensor(statistics.scale, dtype=torch.float64),
        "cohort": statistics.cohort,
    }
    unrelated = statistics.unrelated
    if unrelated is not None:
        tensors |= {name: getattr(unrelated, name) for name in _AXES_UNRELATED}
    return tensors


def statistics_of(tensors: Mapping[str, Tensor]) -> Statistics | None:
    """Statistics from what :func:`tensors_of` made; ``None`` where nothing was stored.

    Raises:
        InputError: The tensors are no statistics.
    """
    if not tensors:
        return None
    compared = any(name in tensors for name in _AXES_UNRELATED)
    expected = _AXES | (_AXES_UNRELATED if compared else {})
    fit = all(name in tensors and tensors[name].ndim == axes for name, axes in expected.items())
    if not fit or len(tensors["projection"]) != len(tensors["mean"]):
        raise InputError(
            "These statistics are not what the embedding needs: 'reasonedit codebook verify' says what is damaged."
        )
    unrelated = Unrelated(*(tensors[name] for name in _AXES_UNRELATED)) if compared else None
    return Statistics(tensors["mean"], tensors["projection"], float(tensors["scale"]), tensors["cohort"], unrelated)
