"""Means with intervals over edits and seeds, and paired differences between editors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000

Samples = Mapping[int, Mapping[str, tuple[float, int]]]
"""For each seed, for each edit: how many of its probes were answered rightly, and how many there are."""

Formula = Callable[[Mapping[str, NDArray[np.float64]]], NDArray[np.float64] | None]
"""A figure from shares by group, for many resamples at once."""


@dataclass(frozen=True)
class Estimate:
    """A share with its interval.

    Attributes:
        mean: The share over all samples.
        low: Lower end of the 95 % interval.
        high: Upper end.
        samples: Number of samples.
        seeds: The share of each seed.
        edits: Number of edits that the samples belong to, over all seeds, each counted once; of a difference those that
            both have.
    """

    mean: float
    low: float
    high: float
    samples: int
    seeds: tuple[float, ...] = ()
    edits: int = 0


def draw_resamples(
    edits: Sequence[Sequence[Hashable]], resamples: int = RESAMPLES, seed: int = 0
) -> list[NDArray[np.int64]]:
    """How often each resample holds each edit: seeds are drawn with replacement, and within a seed its edits.

    All probes of an edit stay together, since their answers depend on the same facts. So an edit that several seeds
    have is drawn once for all of them, and counts in each as often as that seed was drawn; the edits that a seed alone
    has are drawn within it. Where all seeds have the same edits, this is the pigeonhole bootstrap (Owen, Annals of
    Applied Statistics 2007).

    Args:
        edits: For each seed the ids of its edits.
        resamples: Number of resamples.
        seed: Seed of the draws.

    Returns:
        For each seed (resamples, edits).
    """
    rng = np.random.default_rng(seed)
    chosen = rng.multinomial(len(edits), np.full(len(edits), 1 / len(edits)), resamples)  # (resamples, seeds)
    had = Counter(edit for of_seed in edits for edit in of_seed)
    places = {edit: i for i, edit in enumerate(edit for edit, seeds in had.items() if seeds > 1)}
    shared = _draw_evenly(rng, np.full(resamples, len(places)), len(places))
    drawn = []
    for i, of_seed in enumerate(edits):
        own = [j for j, edit in enumerate(of_seed) if edit not in places]
        others = [j for j, edit in enumerate(of_seed) if edit in places]
        counts = np.zeros((resamples, len(of_seed)), dtype=np.int64)
        # A seed drawn k times draws its n own edits k times, independently: that is one draw of k * n.
        counts[:, own] = _draw_evenly(rng, chosen[:, i] * len(own), len(own))
        counts[:, others] = chosen[:, [i]] * shared[:, [places[of_seed[j]] for j in others]]
        drawn.append(counts)
    return drawn


def _draw_evenly(rng: np.random.Generator, draws: NDArray[np.int64], edits: int) -> NDArray[np.int64]:
    """How often each of so many edits is drawn (resamples, edits); of none nothing is drawn."""
    if not edits:
        return np.zeros((len(draws), 0), dtype=np.int64)
    return rng.multinomial(draws, np.full(edits, 1 / edits))


@lru_cache(maxsize=8)
def _cached_resamples(edits: tuple[tuple[int, ...], ...]) -> list[NDArray[np.float64]]:
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


def combine(
    groups: Mapping[str, Samples],
    formula: Formula,
    other: Mapping[str, Samples] | None = None,
) -> Estimate:
    """A formula of the shares of several groups, such as a harmonic mean, with its interval.

    Each resample draws edits with all of their probes, of whatever group, so that groups vary together.

    Args:
        groups: The samples of each group.
        formula: What is made of the shares by group, each an array; ``None`` where the groups do not suffice.
        other: At least the same groups of another editor: then it is how much larger the figure is, paired, for each
            group on the edits of which both have probes.

    Returns:
        The estimate; NaN where the formula gives nothing.
    """
    sides = [groups] if other is None else [groups, other]
    if other is not None:
        sides = [
            {group: _restrict(samples, other[group]) for group, samples in groups.items()},
            {group: _restrict(other[group], samples) for group, samples in groups.items()},
        ]
    names = sorted(
        {(s, e) for of_group in sides[0].values() for s in of_group for e in of_group[s] if of_group[s][e][1]}
    )
    seeds = sorted({seed for seed, _ in names})
    edits = {seed: [edit for s, edit in names if s == seed] for seed in seeds}
    if not seeds:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    tables = [{group: _tabulate(samples, edits) for group, samples in side.items()} for side in sides]

    def values(counts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        figures = []
        for table in tables:
            made = formula({group: _shares(of_group, counts) for group, of_group in table.items()})
            figures.append(np.full(len(counts[0]), np.nan) if made is None else made)
        return figures[0] if len(figures) == 1 else figures[0] - figures[1]

    samples = int(sum(t[:, 1].sum() for of_group in tables[0].values() for t in of_group))
    return _summarise(values, edits, samples)


def _tabulate(samples: Samples, edits: Mapping[int, Sequence[str]]) -> list[NDArray[np.float64]]:
    """Right answers and probes of each edit, by seed (edits, 2)."""
    return [
        np.array([samples.get(seed, {}).get(edit, (0.0, 0)) for edit in of_seed], dtype=np.float64)
        for seed, of_seed in edits.items()
    ]


def _shares(table: Sequence[NDArray[np.float64]], counts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """The share of right answers in each resample; NaN where none was asked."""
    sums = sum((c @ t for c, t in zip(counts, table, strict=True)), np.zeros((len(counts[0]), 2)))
    with np.errstate(invalid="ignore", divide="ignore"):
        shares: NDArray[np.float64] = sums[:, 0] / sums[:, 1]
    return shares


def _summarise(
    values: Callable[[Sequence[NDArray[np.float64]]], NDArray[np.float64]],
    edits: Mapping[int, Sequence[str]],
    samples: int,
) -> Estimate:
    """A figure of all edits, of each seed's, and its interval.

    Args:
        values: The figure, from how often each edit counts: of each seed (resamples, edits).
        edits: The edits of each seed.
        samples: The number of samples.
    """
    once = [np.ones((1, len(of_seed))) for of_seed in edits.values()]
    numbers: dict[str, int] = {}  # so that rows whose seeds overlap alike share their draws, whatever the ids
    numbered = tuple(tuple(numbers.setdefault(e, len(numbers)) for e in of_seed) for of_seed in edits.values())
    # A resample without a figure (NaN) leaves no interval either (NaN): it is not left out.
    low, high = np.percentile(values(_cached_resamples(numbered)), [2.5, 97.5])
    each = [[c if i == j else np.zeros_like(c) for j, c in enumerate(once)] for i in range(len(edits))]
    by_seed = tuple(float(values(counts)[0]) for counts in each)
    return Estimate(float(values(once)[0]), float(low), float(high), samples, by_seed, len(numbers))


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
    asked = {s: sorted(e for e, (_, total) in parts[0][s].items() if total) for s in sorted(parts[0])}
    edits = {seed: names for seed, names in asked.items() if names}
    if not edits:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    tables = [_tabulate(part, edits) for part in parts]

    def values(counts: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        shares = [_shares(table, counts) for table in tables]
        return sum((w * s for w, s in zip(weights, shares, strict=False)), np.zeros(len(counts[0])))

    samples = int(sum(t[:, 1].sum() for t in tables[0]))
    return _summarise(values, edits, samples)
