"""Means with intervals over edits and seeds, and paired differences between editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000

Samples = Mapping[int, Mapping[str, tuple[float, int]]]
"""For each seed, for each edit: how many of its probes were answered rightly, and how many there are."""


@dataclass(frozen=True)
class Estimate:
    """A share with its interval.

    Attributes:
        mean: The share over all samples.
        low: Lower end of the 95 % interval.
        high: Upper end.
        samples: Number of samples.
        seeds: The share of each seed.
        edits: Number of edits that the samples belong to, over all seeds; of a difference those that both have.
    """

    mean: float
    low: float
    high: float
    samples: int
    seeds: tuple[float, ...] = ()
    edits: int = 0


def draw_resamples(edits: Sequence[int], resamples: int = RESAMPLES, seed: int = 0) -> list[NDArray[np.int64]]:
    """How often each resample holds each edit: seeds are drawn with replacement, and within a seed its edits.

    All probes of an edit stay together, since their answers depend on the same facts.

    Args:
        edits: For each seed the number of its edits.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        For each seed (resamples, edits).
    """
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(edits), np.full(len(edits), 1 / len(edits)), resamples)  # (resamples, seeds)
    # A seed drawn k times draws its n edits k times, independently: that is one draw of k * n.
    return [rng.multinomial(chosen[:, i] * n, np.full(n, 1 / n)) for i, n in enumerate(edits)]


@lru_cache(maxsize=8)
def _cached_resamples(edits: tuple[int, ...]) -> list[NDArray[np.float64]]:
    """The same draws for all rows and metrics, as numbers that multiply fast."""
    return [counts.astype(np.float64) for counts in draw_resamples(edits)]


def summarise(rows: Mapping[str, Samples], reference: str | None = None) -> dict[str, tuple[Estimate, Estimate | None]]:
    """Estimate the share of each row, and its difference from that of a reference row.

    The same resamples serve all rows, so that differences are paired: what an edit makes easy or hard for all editors
    cancels. Percentile intervals.

    Args:
        rows: For each editor its samples; editors are compared on the seeds and edits that both have.
        reference: The row that the others are compared with; no differences when it is not given or not among them.

    Returns:
        For each row its share, and the difference (row - reference) with its interval; ``None`` for the reference.
    """
    estimates: dict[str, tuple[Estimate, Estimate | None]] = {}
    other = rows.get(reference) if reference is not None else None
    for name, samples in rows.items():
        compared = difference(samples, other) if other is not None and name != reference else None
        estimates[name] = (_estimate([samples]), compared)
    return estimates


def difference(one: Samples, other: Samples) -> Estimate:
    """How much larger the first share is, paired, on the seeds and edits that both have; NaN where there are none."""
    return _estimate([_restrict(one, other), _restrict(other, one)])


def slope(points: Sequence[tuple[float, Samples]]) -> Estimate:
    """How much the share grows with x: the least-squares line through the points.

    The same resamples serve all points, so that what an edit makes easy or hard at every x cancels.

    Args:
        points: x, and the samples there; of each the seeds and edits count that all have.

    Returns:
        The slope per unit of x; NaN where there are no samples, or one x only.
    """
    xs = np.array([x for x, _ in points], dtype=np.float64)
    centred = xs - xs.mean()
    if not centred.any():
        return _estimate([{}])
    weights = centred / (centred @ centred)
    parts = [samples for _, samples in points]
    for other in parts:
        parts = [_restrict(part, other) for part in parts]
    return _estimate(parts, weights.tolist())


def _restrict(samples: Samples, other: Samples) -> Samples:
    """Those of seeds and edits that were asked about in the other, too."""
    return {
        s: {e: samples[s][e] for e in samples[s] if e in other[s] and samples[s][e][1] and other[s][e][1]}
        for s in samples
        if s in other
    }


def _estimate(parts: Sequence[Samples], weights: Sequence[float] = (1.0, -1.0)) -> Estimate:
    """The weighted sum of the shares of parts: of one its share, of two the difference, unless weights say otherwise.

    All parts are of the same seeds and edits.
    """
    asked = {s: sorted(e for e, (_, total) in parts[0][s].items() if total) for s in parts[0]}
    seeds = sorted(s for s in asked if asked[s])
    edits = [asked[s] for s in seeds]
    if not seeds:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    tables = [
        [np.array([part[s][e] for e in names], dtype=np.float64) for s, names in zip(seeds, edits, strict=True)]
        for part in parts
    ]

    def values(counts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        shares = []
        for table in tables:
            sums = sum((c @ t for c, t in zip(counts, table, strict=True)), np.zeros((len(counts[0]), 2)))
            with np.errstate(invalid="ignore", divide="ignore"):
                shares.append(sums[:, 0] / sums[:, 1])
        return sum((w * s for w, s in zip(weights, shares, strict=False)), np.zeros(len(counts[0])))

    once = [np.ones((1, len(e))) for e in edits]
    # A resample without a share (NaN) leaves no interval either (NaN): it is not left out.
    low, high = np.percentile(values(_cached_resamples(tuple(len(e) for e in edits))), [2.5, 97.5])
    each = [[c if i == j else np.zeros_like(c) for j, c in enumerate(once)] for i in range(len(seeds))]
    mean, samples = float(values(once)[0]), int(sum(t[:, 1].sum() for t in tables[0]))
    by_seed = tuple(float(values(counts)[0]) for counts in each)
    return Estimate(mean, float(low), float(high), samples, by_seed, sum(map(len, edits)))
