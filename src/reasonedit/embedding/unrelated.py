"""How near unrelated pictures come to each other: what a match and a picture out of range are told by (ours)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NEAREST = 0.2
"""Share of the cohort that a picture is compared with: the pictures nearest to it."""
_NEIGHBOURS = 5
"""Reference pictures from which a picture's distance is counted."""
_QUANTILES = 4096
"""Scores of unrelated pairs that are kept."""


@dataclass(frozen=True)
class Unrelated:
    """How near some pictures, of which no two belong together, come to each other.

    Attributes:
        scores: The visual match of one picture's region with another picture, of all pairs: rising, up to 4,096
            quantiles of them.
        wholes: The whole pictures along the statistics' directions, (P, width).
        regions: Their regions along them, picture by picture, as many of each: (P * R, width).
        spread: How far each picture lies from the others, its whole and its regions: (P, 2); see
            :func:`distances_from_pictures`.
    """

    scores: Tensor
    wholes: Tensor
    regions: Tensor
    spread: Tensor

    @classmethod
    def of(cls, transformed: tuple[Tensor, Tensor], along: tuple[Tensor, Tensor]) -> Unrelated | None:
        """Compare pictures with each other, each without itself.

        Args:
            transformed: Whole pictures (P, width) and their regions (P * R, width) after the transform.
            along: The same along the statistics' directions, whatever the transform.

        Returns:
            ``None`` of fewer than three pictures: no two of them can be compared with a third.
        """
        if len(along[0]) < 3:
            return None
        return cls(_score_pairs(*transformed), *along, _leave_each_out(*along))


def cohort_count(cohort: Tensor) -> int:
    """How many of a cohort, the nearest, a picture is compared with."""
    return max(2, round(_NEAREST * len(cohort)))


def levels(distances: Tensor, count: int) -> Tensor:
    """Mean and standard deviation of the distances to the nearest of a cohort.

    Args:
        distances: From each picture to each of the cohort, (N, C).
        count: How many count, from :func:`cohort_count`.

    Returns:
        (N, 2).
    """
    nearest = distances.topk(count, dim=1, largest=False).values
    return torch.stack([nearest.mean(1), nearest.std(1).clamp(min=1e-6)], dim=1)


def match_scores(distances: Tensor, keys: Tensor, regions: Tensor) -> Tensor:
    """By how many standard deviations pictures are nearer to each other than unrelated ones, the average of both sides.

    Args:
        distances: From each key to each region of a query, (N, R).
        keys: The :func:`levels` of the keys, (N, 2).
        regions: Those of the query's regions, (R, 2).

    Returns:
        (N, R).
    """
    from_keys = (keys[:, :1] - distances) / keys[:, 1:]
    from_query = (regions[:, 0] - distances) / regions[:, 1]
    return (from_keys + from_query) / 2


def distances_from_pictures(queries: Tensor, wholes: Tensor, cohort: Tensor) -> Tensor:
    """How far a picture lies from all reference pictures: the mean distance to the nearest of them.

    All of them along the statistics' directions.

    Args:
        queries: The picture's regions, its whole last: (R, width), or the whole alone, (1, width).
        wholes: Reference pictures, (P, width).
        cohort: Their regions, (C, width).

    Returns:
        That of the whole from whole pictures, and the mean of those of its regions from regions: (2,), or (1,) where
        there is the whole alone.
    """
    of_whole = _nearest_mean(torch.cdist(queries[-1:], wholes))
    if len(queries) == 1:
        return of_whole
    return torch.cat([of_whole, _nearest_mean(torch.cdist(queries[:-1], cohort)).mean(0, keepdim=True)])


def _nearest_mean(distances: Tensor) -> Tensor:
    count = min(_NEIGHBOURS, distances.shape[1])
    return distances.topk(count, dim=1, largest=False).values.mean(1)


def _leave_each_out(wholes: Tensor, cohort: Tensor) -> Tensor:
    """The distances of each picture from the others, (P, 2)."""
    regions = cohort.view(len(wholes), -1, cohort.shape[1])
    rows = []
    for i, whole in enumerate(wholes):
        others = torch.arange(len(wholes)) != i
        queries = torch.cat([regions[i], whole[None]])
        rows.append(distances_from_pictures(queries, wholes[others], regions[others].flatten(0, 1)))
    return torch.stack(rows)


def _score_pairs(wholes: Tensor, cohort: Tensor) -> Tensor:
    """The visual match of each region of a picture with each other picture: rising, as quantiles."""
    pictures = len(wholes)
    regions = len(cohort) // pictures
    owner = torch.arange(pictures).repeat_interleave(regions)
    count = min(cohort_count(cohort), len(cohort) - regions)

    def level(rows: Tensor, of: Tensor) -> Tensor:
        distances = torch.cdist(rows, cohort)
        return levels(distances.masked_fill(of[:, None] == owner, torch.inf), count)

    keys, whole_levels = level(cohort, owner), level(wholes, torch.arange(pictures))
    scores = []
    for i, whole in enumerate(wholes):
        own = owner == i
        query, of_query = torch.cat([cohort[own], whole[None]]), torch.cat([keys[own], whole_levels[i : i + 1]])
        others = ~own
        scores.append(match_scores(torch.cdist(cohort[others], query), keys[others], of_query).amax(1))
    rising = torch.cat(scores).sort().values
    if len(rising) <= _QUANTILES:
        return rising
    return rising[torch.linspace(0, len(rising) - 1, _QUANTILES, dtype=torch.float64).round().long()]
