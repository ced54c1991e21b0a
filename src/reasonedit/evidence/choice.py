"""Which windows are kept as evidence, by what the VLM says of them (section 2 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from reasonedit.boxes import Box
from reasonedit.sentences import content_words, named_place

from .windows import area

UNLISTED, UNVERIFIED, OUTSCORED = "not on the shortlist", "not affirmed", "outscored"
SMALLEST, BEST = "best of the smallest", "best of all"
LIKELIEST, GUESSED = "likeliest", "likeliest of what has no name"
_PLACE_WEIGHT = 9.0
"""What the distance from a named place costs: nats per side of the picture, so 3 for a neighbour on a grid of 3 x 3."""


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
    """The evidence of one sentence: all windows, the smallest first, in raster order."""

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


def keep_single_windows(found: Sequence[Evidence], least: float, p_yes: float) -> None:
    """Decide, in place, which one window is kept for each sentence (ours).

    The windows are small and of one size. A larger one, as the best of any size often is, shows other things too: its
    key also comes near to pictures of these. Of an affirmed sentence the window is kept of which it is affirmed most.

    What the VLM denies of every window may speak of a thing that it has no name for. Of that thing there is one window
    for all denied sentences that share a word: where the VLM denies least what the first of them says, the first that
    names a place ("The object on the left is a zither.") before others, and the nearer to that place the better.

    Args:
        found: The evidence of all sentences of an edit, its windows with their ``p_yes``.
        least: A denied sentence gets a window only if its ``p_yes`` of any window is above this: what no picture shows,
            such as what somebody thinks, gets none.
        p_yes: A sentence is affirmed of a window above this.
    """
    guesses: list[Evidence] = []
    for evidence in found:
        best = max(evidence.windows, key=_asked)
        if _asked(best) > p_yes:
            best.kept, best.why = True, LIKELIEST
        elif _asked(best) > least:
            guesses.append(evidence)
    for evidence in guesses:
        same = [guess for guess in guesses if guess is evidence or _share_words(guess, evidence)]
        first = next((guess for guess in same if named_place(guess.sentence)), same[0])
        box = _least_denied(first.windows, named_place(first.sentence)).box
        for window in evidence.windows:
            if window.box == box:
                window.kept, window.why = True, GUESSED


def _least_denied(windows: Sequence[WindowScore], place: tuple[float, float] | None) -> WindowScore:
    """The window of which the VLM denies a sentence least; one far from a named place must be denied less by far.

    Of windows that the VLM was not asked about, as they are not on the shortlist, it is none.
    """

    def score(window: WindowScore) -> float:
        chance = min(max(_asked(window), 1e-7), 1 - 1e-7)
        logit = math.log(chance / (1 - chance))
        if place is None:
            return logit
        left, top, right, bottom = window.box
        return logit - _PLACE_WEIGHT * (abs((left + right) / 2 - place[0]) + abs((top + bottom) / 2 - place[1]))

    return max((w for w in windows if w.p_yes is not None), key=score)


def _share_words(evidence: Evidence, other: Evidence) -> bool:
    return not content_words(evidence.sentence).isdisjoint(content_words(other.sentence))


def _asked(window: WindowScore) -> float:
    return window.p_yes or 0.0
