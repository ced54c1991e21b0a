"""Which windows are kept as evidence, by what the VLM says of them (section 2 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reasonedit.boxes import Box

from .windows import area

UNLISTED, UNVERIFIED, OUTSCORED = "not on the shortlist", "not affirmed", "outscored"
SMALLEST, BEST = "best of the smallest", "best of all"
LIKELIEST, GUESSED = "likeliest of the smallest", "likeliest of what has no name"


@dataclass
class WindowScore:
    """One window and what became of it.

    Attributes:
        box: The window.
        p_yes: How sure the VLM is that it shows the sentence; ``None`` where it was not asked.
        nll: Mean negative log-likelihood per token (nats) of the sentence as a description of it; ``None`` where the
            VLM did not affirm it.
        kept: Whether it is evidence.
        why: Why it was kept or dropped, in words.
    """

    box: Box
    p_yes: float | None = None
    nll: float | None = None
    kept: bool = False
    why: str = UNLISTED


@dataclass
class Evidence:
    """The evidence of one sentence: all windows in the order of :func:`.windows.windows_of`, the smallest first."""

    sentence: str
    windows: list[WindowScore] = field(default_factory=list)

    @property
    def boxes(self) -> list[Box]:
        """The windows that were kept."""
        return [w.box for w in self.windows if w.kept]


def choose_windows(windows: Sequence[WindowScore], top: int = 1) -> None:
    """Decide, in place, which of the windows that have an NLL are kept.

    Of the smallest among them those of the lowest NLL, ties included; and the ``top`` of any size. NLLs are rounded to
    two decimals; of windows with equal NLL the smaller is the better one.
    """
    scored = [(round(w.nll, 2), w) for w in windows if w.nll is not None]
    if not scored:
        return
    least_area = min(area(w.box) for _, w in scored)
    lowest = min(nll for nll, w in scored if area(w.box) == least_area)
    best = [w for _, w in sorted(scored, key=lambda pair: (pair[0], area(pair[1].box)))[:top]]
    for nll, window in scored:
        reasons = []
        if area(window.box) == least_area and nll == lowest:
            reasons.append(SMALLEST)
        if any(window is w for w in best):
            reasons.append(BEST)
        window.kept, window.why = bool(reasons), " and ".join(reasons) or OUTSCORED


def smallest_windows(windows: Sequence[WindowScore]) -> list[WindowScore]:
    """The windows of the smallest area among those that the VLM was asked about."""
    asked = [w for w in windows if w.p_yes is not None]
    least = min((area(w.box) for w in asked), default=0.0)
    return [w for w in asked if area(w.box) == least]


def keep_single_window(
    windows: Sequence[WindowScore], least: float, certainty: Mapping[Box, float] | None = None
) -> None:
    """Decide, in place, which one of the smallest windows is kept (ours).

    A larger window, as the best of any size often is, shows other things too: its key also comes near to pictures of
    these.

    Args:
        windows: All windows with their ``p_yes``.
        least: A window is kept only if its ``p_yes`` is above this.
        certainty: For a sentence that the VLM affirms of no window: how sure the VLM is of a name for what each of the
            smallest shows, 0 to 1. A thing that it has no name for is not where it can name what it sees, so ``p_yes``
            is weighted by one minus the certainty.
    """
    best = max(
        smallest_windows(windows),
        key=lambda w: (w.p_yes or 0.0) * (1 - (certainty or {}).get(w.box, 0.0)),
        default=None,
    )
    if best is not None and (best.p_yes or 0.0) > least:
        best.kept, best.why = True, LIKELIEST if certainty is None else GUESSED
