"""From intervals of differences to verdicts, and to figures in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

from reasonedit.experiments.bootstrap import Estimate

YES, NO, OPEN = "yes", "no", "open"
SEEDS, EDITS = 2, 20
"""Of fewer seeds or edits nothing is concluded."""


def judge(
    differences: Iterable[Estimate], shows: Callable[[Estimate], bool], refutes: Callable[[Estimate], bool]
) -> str:
    """Yes if every difference shows the claim, no if one refutes it, else open.

    Of too few seeds or edits, or where an interval has an end that is no number, it is open.
    """
    estimates = list(differences)
    if not estimates or any(is_inconclusive(e) for e in estimates):
        return OPEN
    if any(refutes(e) for e in estimates):
        return NO
    return YES if all(shows(e) for e in estimates) else OPEN


def is_inconclusive(e: Estimate) -> bool:
    """Whether nothing can be concluded from a difference."""
    has_interval = all(map(math.isfinite, (e.mean, e.low, e.high))) and e.low <= e.high
    return not has_interval or len(e.seeds) < SEEDS or e.edits < EDITS


def negate(e: Estimate) -> Estimate:
    """A difference the other way round."""
    return replace(e, mean=0.0 - e.mean, low=0.0 - e.high, high=0.0 - e.low, seeds=tuple(0.0 - s for s in e.seeds))


def format_difference(e: Estimate) -> str:
    """A difference with its interval, where it has one; a dash where nothing was compared."""
    if not math.isfinite(e.mean):
        return "–"
    interval = f" [{e.low:+.3f}, {e.high:+.3f}]" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{e.mean:+.3f}{interval}"


def format_basis(differences: Iterable[Estimate]) -> str:
    """From how many seeds and edits differences are: the least of all."""
    estimates = list(differences)
    if not estimates:
        return ""
    seeds, edits = min(len(e.seeds) for e in estimates), min(e.edits for e in estimates)
    basis = f"from {seeds} seed{'s' if seeds != 1 else ''} and {edits} edit{'s' if edits != 1 else ''}"
    if seeds < SEEDS or edits < EDITS:
        return f"{basis}, too few to conclude anything"
    return f"{basis}, without an interval" if any(is_inconclusive(e) for e in estimates) else basis
