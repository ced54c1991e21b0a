"""Whether a picture is like those that the statistics were taken from (ours)."""

from __future__ import annotations

from torch import Tensor

from reasonedit.embedding import Statistics
from reasonedit.embedding.unrelated import Unrelated, distances_from_pictures

from .thresholds import range_threshold


class PictureRange:
    """Tells pictures apart that lie far from all that the statistics were taken from: distances mean nothing there.

    The whole picture's distance from the nearest reference pictures, and that of its regions from the nearest of their
    regions, are each divided by the median of what the reference pictures themselves have, each without itself; the
    two are averaged.

    Args:
        unrelated: How near the reference pictures come to each other.
        rate: The share of pictures like these that may be taken for unlike.
    """

    def __init__(self, unrelated: Unrelated, rate: float) -> None:
        self._unrelated, self._rate = unrelated, rate
        self._medians = unrelated.spread.median(0).values.clamp(min=1e-6)
        self._thresholds: dict[int, float] = {}

    @classmethod
    def of(cls, statistics: Statistics, rate: float | None) -> PictureRange | None:
        """The range of statistics; ``None`` where no rate is stated, or the statistics do not say it."""
        if rate is None or statistics.unrelated is None:
            return None
        return cls(statistics.unrelated, rate)

    def score(self, query: Tensor) -> float:
        """How far a picture lies from the reference pictures, as a share of how far it may.

        Args:
            query: Its regions along the statistics' directions, its whole last: (R, width), or the whole alone.
        """
        distances = distances_from_pictures(query, self._unrelated.wholes, self._unrelated.regions)
        parts = len(distances)
        return float((distances / self._medians[:parts]).mean()) / self.reach(parts)

    def reach(self, parts: int = 2) -> float:
        """How far a picture may lie, as a multiple of the median of the reference pictures.

        Args:
            parts: 2 where its regions count too, 1 for the whole alone.
        """
        if parts not in self._thresholds:
            own = (self._unrelated.spread[:, :parts] / self._medians[:parts]).mean(1)
            self._thresholds[parts] = range_threshold(own, self._rate)
        return self._thresholds[parts]

    def contains(self, query: Tensor) -> bool:
        """Whether a picture is like the reference pictures; arguments as for :meth:`score`."""
        return self.score(query) <= 1.0
