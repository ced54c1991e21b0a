"""Means with intervals over edits and seeds, and paired differences between editors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000

Samples = Mapping[int, Mapping[str, tuple[int, int]]]
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
    """

    mean: float
    low: float
    high: float
    samples: int
    seeds: tuple[float, ...] = ()


def draws(of: Sequence[Sequence[str]], resamples: int = RESAMPLES, seed: int = 0) -> list[list[NDArray[np.int64]]]:
    """Which edits each resample holds: seeds are drawn with replacement, and within a seed its edits.

    All probes of an edit stay together, as their answers hang on the same facts.

    Args:
        of: For each seed the names of its edits.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        For each resample, for each seed how often each of its edits was drawn.
    """
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(resamples):
        counts = [np.zeros(len(edits), dtype=np.int64) for edits in of]
        for chosen in rng.integers(0, len(of), len(of)):
            size = len(of[chosen])
            counts[chosen] += np.bincount(rng.integers(0, size, size), minlength=size)
        found.append(counts)
    return found


def summarise(rows: Mapping[str, Samples], reference: str | None = None) -> dict[str, tuple[Estimate, Estimate | None]]:
    """Estimate the share of each row, and its difference from that of a reference row.

    The same resamples serve all rows, so that differences are paired: what an edit makes easy or hard for all editors
    cancels. Percentile intervals.

    Args:
        rows: For each editor its samples; editors are compared on the seeds and edits that both have.
        reference: The row that the others are compared with; no differences when not given or not there.

    Returns:
        For each row its share, and the difference (row - reference) with its interval; ``None`` for the reference.
    """
    made: dict[str, tuple[Estimate, Estimate | None]] = {}
    against = rows.get(reference) if reference is not None else None
    for name, samples in rows.items():
        own = _estimate([samples])
        difference = None
        if against is not None and name != reference:
            difference = _estimate([_shared(samples, against), _shared(against, samples)])
        made[name] = (own, difference)
    return made


def _shared(mine: Samples, other: Samples) -> Samples:
    return {s: {e: mine[s][e] for e in mine[s] if e in other[s]} for s in mine if s in other}


def _estimate(parts: Sequence[Samples]) -> Estimate:
    """The share of the first part, less that of the second where there are two."""
    seeds = sorted(s for s in parts[0] if parts[0][s])
    edits = [sorted(parts[0][s]) for s in seeds]
    if not seeds:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    tables = [
        [np.array([part[s][e] for e in names], dtype=np.float64) for s, names in zip(seeds, edits, strict=True)]
        for part in parts
    ]

    def share(table: Sequence[NDArray[np.float64]], counts: Sequence[NDArray[np.int64]]) -> float:
        right, total = sum((c @ t for c, t in zip(counts, table, strict=True)), np.zeros(2))
        return float(right / total) if total else float("nan")

    def value(counts: Sequence[NDArray[np.int64]]) -> float:
        found = [share(table, counts) for table in tables]
        return found[0] - found[1] if len(found) == 2 else found[0]

    once = [np.ones(len(e), dtype=np.int64) for e in edits]
    spread = np.array([value(counts) for counts in draws(edits)])
    low, high = np.nanpercentile(spread, [2.5, 97.5])
    each = tuple(value([c if i == j else np.zeros_like(c) for j, c in enumerate(once)]) for i in range(len(seeds)))
    return Estimate(value(once), float(low), float(high), int(sum(t[:, 1].sum() for t in tables[0])), each)
