"""What unrelated pictures have in common in one layer: it fixes how pooled tokens are transformed and scaled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from reasonedit.boxes import WHOLE
from reasonedit.errors import InputError
from reasonedit.vlm.vision import flat

from .pooling import QUERY_REGIONS, pool
from .unrelated import Unrelated

TRANSFORMS = ("raw", "whitened", "discriminant")
SHRINKAGE = 0.1
"""Share of the identity in the covariance within things: 0.001 to 0.1 did the same on development seeds."""

_DIRECTIONS = 64


class ReferenceTokens:
    """What statistics are made of, added picture by picture: the tokens themselves are dropped.

    Attributes:
        count: Number of tokens.
        wholes: Mean token of each picture, (1, D).
        regions: Mean tokens of its nine regions, (9, D); of the whole where the tokens are no grid.
    """

    def __init__(self) -> None:
        self.count = 0
        self.wholes: list[Tensor] = []
        self.regions: list[Tensor] = []
        self._shift = self._sum = self._squares = torch.empty(0)

    def add(self, tokens: Tensor, regions: Tensor | None = None) -> None:
        """Add a picture.

        Args:
            tokens: (rows, columns, D), or (tokens, D) where they are no grid.
            regions: Mean tokens of its regions (9, D), where they are not pooled from these tokens.
        """
        tokens = tokens.float().cpu()
        self.wholes.append(pool(tokens, [WHOLE]))
        if regions is None:
            regions = pool(tokens, QUERY_REGIONS if tokens.dim() == 3 else [WHOLE])
        self.regions.append(regions)
        rows = flat(tokens).double()
        if not self.count:  # moments about the first picture's mean: less is lost to rounding
            self._shift = rows.mean(0)
            self._sum = torch.zeros_like(self._shift)
            self._squares = torch.zeros(len(self._shift), len(self._shift), dtype=torch.float64)
        rows -= self._shift
        self.count += len(rows)
        self._sum += rows.sum(0)
        self._squares += rows.T @ rows

    def merge(self, other: ReferenceTokens) -> None:
        """Add the pictures of another one, behind those that are there."""
        if not other.count:
            return
        if not self.count:
            self._shift = other._shift
            self._sum, self._squares = torch.zeros_like(other._sum), torch.zeros_like(other._squares)
        by = other._shift - self._shift  # the other's moments are about another point
        self._sum += other._sum + other.count * by
        mixed = other._sum.outer(by)
        self._squares += other._squares + mixed + mixed.T + other.count * by.outer(by)
        self.count += other.count
        self.wholes += other.wholes
        self.regions += other.regions

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, to be sent to another process; nothing where nothing was."""
        if not self.count:
            return {}
        return {
            "count": torch.tensor(self.count),
            "wholes": torch.stack(self.wholes),
            "regions": torch.stack(self.regions),
            "shift": self._shift,
            "sum": self._sum,
            "squares": self._squares,
        }

    @classmethod
    def of_tensors(cls, tensors: Mapping[str, Tensor]) -> ReferenceTokens:
        """What :meth:`tensors` made."""
        reference = cls()
        if tensors:
            reference.count = int(tensors["count"])
            reference.wholes, reference.regions = list(tensors["wholes"]), list(tensors["regions"])
            reference._shift, reference._sum = tensors["shift"], tensors["sum"]
            reference._squares = tensors["squares"]
        return reference

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D) of all tokens, in double precision."""
        mean = self._sum / self.count
        covariance = (self._squares - self.count * mean.outer(mean)) / (self.count - 1)
        return mean + self._shift, covariance


@dataclass(frozen=True, eq=False)
class Statistics:
    """What unrelated pictures have in common in one layer, and how far apart they are.

    Attributes:
        mean: Mean token, (D,).
        projection: (D, 64): the principal directions of the tokens, each divided by the standard deviation along it; or
            the directions that tell things apart, each divided by the standard deviation of one thing along it.
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
            mean, projection = _principal_directions(reference)
        unscaled = cls(mean, projection, 1.0, regions)
        pooled = torch.cat(reference.wholes) if transform == "raw" else unscaled.apply(regions, transform)
        # The mean squared distance of two points is twice their mean squared distance from the mean.
        spread = 2 * (pooled - pooled.mean(0)).square().sum() / (len(pooled) - 1)
        scaled = cls(mean, projection, float(spread.sqrt()), regions)
        return replace(scaled, cohort=scaled.apply(regions, transform))

    def compared(self, reference: ReferenceTokens, transform: str) -> Statistics:
        """The same, with how near the unrelated pictures come to each other; arguments as for :meth:`of`."""
        wholes, regions = torch.cat(reference.wholes), torch.cat(reference.regions)
        transformed = self.apply(wholes, transform), self.cohort
        return replace(self, unrelated=Unrelated.of(transformed, (self.along(wholes), self.along(regions))))

    def along(self, pooled: Tensor) -> Tensor:
        """Pooled tokens (N, D) along the directions of :attr:`projection`: (N, 64), not brought to one length."""
        return (pooled - self.mean) @ self.projection

    def apply(self, pooled: Tensor, transform: str) -> Tensor:
        """Transform pooled tokens (N, D); those of unrelated pictures then lie at distance 1 of each other."""
        if transform == "raw":
            return pooled / self.scale
        return normalize(self.along(pooled), dim=-1) / self.scale


def _principal_directions(reference: ReferenceTokens) -> tuple[Tensor, Tensor]:
    """Mean token and principal directions of the tokens, each divided by the standard deviation along it."""
    mean, covariance = reference.moments()
    count = min(_DIRECTIONS, len(mean), reference.count - 1)
    values, directions = torch.linalg.eigh(covariance)
    # The floor: dividing by almost nothing would blow up a direction in which nothing varies.
    deviation = values[-count:].clamp(min=float(values[-1]) * 1e-6).sqrt()
    return mean.float(), (directions[:, -count:] / deviation).float()


def _discriminants(pooled: Tensor, things: Tensor) -> Tensor:
    """Fisher's linear discriminants (1936), the best first: the variance within things is 1 along each."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    analysis = LinearDiscriminantAnalysis(solver="eigen", shrinkage=SHRINKAGE).fit(pooled.numpy(), things.numpy())
    return torch.from_numpy(analysis.scalings_[:, :_DIRECTIONS]).float()


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
