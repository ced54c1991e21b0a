"""Which part of an image a sentence speaks of (section 2 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.errors import ReasonEditError
from reasonedit.prompts import DESCRIBE, NAME, verification_question
from reasonedit.vlm import VLM, Seen, Vision
from reasonedit.vlm.device_memory import run_in_parts

from .windows import GRIDS, area, crop, shrunk, windows_of

UNLISTED, UNVERIFIED, OUTSCORED = "not on the shortlist", "not affirmed", "outscored"
SMALLEST, BEST = "best of the smallest", "best of all"
LIKELIEST, GUESSED = "likeliest of the smallest", "likeliest of what has no name"


@dataclass(frozen=True)
class EvidenceConfig:
    """How evidence is sought.

    Attributes:
        grid: Windows are cut out on a grid of 3 x 3 or 4 x 4.
        p_yes: A window counts if the VLM affirms the sentence with more than this probability.
        single_window: Of the smallest windows the one is kept that the VLM finds likeliest, if it affirms with more
            than this probability, in place of the two routes of section 2 (ours; see :func:`keep_single_window`). The
            two routes are taken when it is not given.
        top: Number of windows of any size that are kept by their likelihood.
        shortlist: Only so many windows per sentence are verified, those that an open_clip model ranks first; all when
            not given.
        clip: The open_clip model: an architecture, a colon and the name or the file of its weights.
    """

    grid: int = 3
    p_yes: float = 0.5
    single_window: float | None = None
    top: int = 1
    shortlist: int | None = None
    clip: str = "ViT-B-32:laion2b_s34b_b79k"

    def __post_init__(self) -> None:
        if self.grid not in GRIDS:
            raise ReasonEditError(f"grid must be {' or '.join(map(str, GRIDS))}, not {self.grid}.")
        if not 0 <= self.p_yes < 1:
            raise ReasonEditError(f"p_yes must be at least 0 and below 1, not {self.p_yes}.")
        if self.single_window is not None and not 0 <= self.single_window < 1:
            raise ReasonEditError(f"single_window must be at least 0 and below 1, not {self.single_window}.")
        if self.top < 0:
            raise ReasonEditError(f"top must be 0 or more, not {self.top}.")
        if self.shortlist is not None and self.shortlist < 1:
            raise ReasonEditError(f"shortlist must be 1 or more, not {self.shortlist}.")


@dataclass
class WindowScore:
    """One window and what became of it.

    Attributes:
        box: The window.
        p_yes: How sure the VLM is that it shows the sentence; ``None`` where it was not asked.
        nll: Mean negative log-likelihood per token of the sentence as a description of it; ``None`` where the VLM did
            not affirm it.
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
    """What was found for one sentence: all windows in the order of :func:`windows_of`, the smallest first."""

    sentence: str
    windows: list[WindowScore] = field(default_factory=list)

    @property
    def boxes(self) -> list[Box]:
        """The windows that were kept."""
        return [w.box for w in self.windows if w.kept]


class Shortlist(Protocol):
    """Ranks windows for sentences, cheaply."""

    def rank(self, crops: Sequence[Image.Image], sentences: Sequence[str]) -> list[list[int]]:
        """For each sentence the indices of the windows, the most promising first."""
        ...


def choose(windows: Sequence[WindowScore], top: int = 1) -> None:
    """Decide, in place, which of the windows that have an NLL are kept.

    Of the smallest among them those of the lowest NLL, ties kept; and the ``top`` of any size. NLLs count rounded to
    two decimals; among equals of different size the smaller is the better one.
    """
    left = [w for w in windows if w.nll is not None]
    if not left:
        return

    def rounded(window: WindowScore) -> float:
        assert window.nll is not None
        return round(window.nll, 2)

    smallest = [w for w in left if area(w.box) == min(area(w.box) for w in left)]
    lowest = min(map(rounded, smallest))
    ranked = sorted(left, key=lambda w: (rounded(w), area(w.box)))
    for window in left:
        reasons = []
        if any(window is w for w in smallest) and rounded(window) == lowest:
            reasons.append(SMALLEST)
        if any(window is w for w in ranked[:top]):
            reasons.append(BEST)
        window.kept, window.why = bool(reasons), " and ".join(reasons) or OUTSCORED


def smallest(windows: Sequence[WindowScore]) -> list[WindowScore]:
    """Those of the smallest area among the windows that the VLM was asked about."""
    asked = [w for w in windows if w.p_yes is not None]
    least = min((area(w.box) for w in asked), default=0.0)
    return [w for w in asked if area(w.box) == least]


def keep_single_window(
    windows: Sequence[WindowScore], least: float, certainty: Mapping[Box, float] | None = None
) -> None:
    """Decide, in place, which one of the smallest windows is kept: a key of it alone tells what the sentence is about.

    A window of several cells, as the best of any size often is, shows the neighbours too, and looks like other pictures
    of them.

    Args:
        windows: All windows with their ``p_yes``.
        least: The one is kept only if its ``p_yes`` is above this.
        certainty: For a sentence that the VLM affirms of no window: how sure it is what each of the smallest shows. A
            thing that it has no name for is not where it can name what it sees, so ``p_yes`` counts by the doubt.
    """
    rated = smallest(windows)
    best = max(rated, key=lambda w: (w.p_yes or 0.0) * (1 - (certainty or {}).get(w.box, 0.0)), default=None)
    if best is not None and (best.p_yes or 0.0) > least:
        best.kept, best.why = True, LIKELIEST if certainty is None else GUESSED


class EvidenceFinder:
    """Finds the windows of an image that sentences speak of.

    Each window passes the vision part once and its image prefix the language model once, whatever the number of
    sentences: all sentences are verified against it together, and scored where they were affirmed.

    Args:
        vlm: The VLM that verifies and scores.
        config: How evidence is sought.
        shortlist: What ranks the windows, in place of the open_clip model that the config names.
    """

    def __init__(self, vlm: VLM, config: EvidenceConfig | None = None, shortlist: Shortlist | None = None) -> None:
        self.vlm = vlm
        self.config = config or EvidenceConfig()
        if shortlist is None and self.config.shortlist is not None:
            from .shortlist import ClipShortlist

            shortlist = ClipShortlist.from_pretrained(self.config.clip, vlm.device)
        self.shortlist = shortlist
        self._window: tuple[int, int] | None = None  # tokens and pixel numbers of a window

    def find(self, image: Image.Image, sentences: Sequence[str]) -> list[Evidence]:
        """Find evidence for each sentence.

        Args:
            image: The upright RGB image.
            sentences: The sentences of a reasoning.

        Returns:
            For each sentence all windows with their scores, and which are kept.
        """
        return self.find_seen(image, sentences)[0]

    def find_seen(
        self,
        image: Image.Image,
        sentences: Sequence[str],
        layers: Sequence[str] = (),
        known: Mapping[Box, Seen] | None = None,
    ) -> tuple[list[Evidence], dict[Box, Seen]]:
        """As :meth:`find`, with the windows that are kept as the vision part saw them.

        Args:
            image: The upright RGB image.
            sentences: The sentences.
            layers: Layers whose input is kept.
            known: Windows that the vision part saw already, keeping these layers: they do not pass again.

        Returns:
            The evidence, and for each window that is kept its pass.
        """
        image = shrunk(image)
        boxes = windows_of(image.size, self.config.grid)
        crops = [crop(image, box) for box in boxes]
        found = [Evidence(s, [WindowScore(box) for box in boxes]) for s in sentences]
        listed = [range(len(boxes))] * len(sentences)
        if self.config.shortlist is not None and self.shortlist is not None and sentences:
            ranked = self.shortlist.rank(crops, sentences)
            listed = [sorted(order[: self.config.shortlist]) for order in ranked]  # type: ignore[misc]
        asked: list[list[int]] = [[] for _ in boxes]  # for each window, the sentences it is verified for
        for sentence, mine in enumerate(listed):
            for window in mine:
                asked[window].append(sentence)
        needed = [i for i, a in enumerate(asked) if a]
        seen: dict[Box, Seen] = {}

        def score(part: list[int]) -> None:
            seen.update({boxes[i]: known[boxes[i]] for i in part if known is not None and boxes[i] in known})
            unseen = [i for i in part if boxes[i] not in seen]
            if unseen:
                passed = self.vlm.see([crops[i] for i in unseen], layers).images
                seen.update({boxes[i]: window for i, window in zip(unseen, passed, strict=True)})
            vision = Vision([seen[boxes[i]] for i in part])
            self._score(vision, part, [asked[i] for i in part], found)
            self._window = self._window or _largest(vision.images)

        # What a window takes is known when one was seen; then it is about what the last search's windows took.
        if needed and self._window is None:
            run_in_parts(needed[:1], 1, score)
            needed = needed[1:]
        if needed and self._window is not None:
            run_in_parts(needed, self.vlm.images_at_once(*self._window, sum(len(s) for s in sentences) // 2), score)
        self._window = _largest(seen.values()) or self._window
        self._choose(found, seen)
        kept = {box for evidence in found for box in evidence.boxes}
        return found, {box: window for box, window in seen.items() if box in kept}

    def _choose(self, found: Sequence[Evidence], seen: Mapping[Box, Seen]) -> None:
        """Keep what is evidence for each sentence."""
        least = self.config.single_window
        if least is None:
            for evidence in found:
                choose(evidence.windows, self.config.top)
            return
        denied = [e for e in found if not any((w.p_yes or 0.0) > self.config.p_yes for w in e.windows)]
        rated = {w.box for e in denied for w in smallest(e.windows)}
        certainty: dict[Box, float] = {}
        if denied and max((w.p_yes or 0.0 for e in denied for w in smallest(e.windows)), default=0.0) > least:
            boxes = [w.box for w in found[0].windows if w.box in rated]
            asked = self.vlm.next_token_probabilities(
                Vision([seen[box] for box in boxes]), [self.vlm.prompt(NAME)] * len(boxes)
            )
            certainty = dict(zip(boxes, asked.amax(1).tolist(), strict=True))
        for evidence in found:
            keep_single_window(evidence.windows, least, certainty if evidence in denied else None)

    def _score(
        self, vision: Vision, rows: Sequence[int], asked: Sequence[Sequence[int]], found: Sequence[Evidence]
    ) -> None:
        """Verify, and score what is affirmed, for a batch of windows."""
        prefix = self.vlm.read(vision)
        probabilities = self.vlm.p_yes(
            prefix, [[verification_question(found[s].sentence) for s in mine] for mine in asked]
        )
        affirmed: list[list[int]] = []
        for row, mine, p in zip(rows, asked, probabilities, strict=True):
            affirmed.append([])
            for sentence, value in zip(mine, p.tolist(), strict=True):
                window = found[sentence].windows[row]
                window.p_yes, window.why = value, UNVERIFIED
                if value > self.config.p_yes:
                    affirmed[-1].append(sentence)
        left = [i for i, mine in enumerate(affirmed) if mine]
        if not left or self.config.single_window is not None:
            return
        sentences = [[found[s].sentence for s in affirmed[i]] for i in left]
        prefix.narrow(left)
        for i, scores in zip(left, self.vlm.sentence_nll(prefix, DESCRIBE, sentences), strict=True):
            for sentence, nll in zip(affirmed[i], scores.tolist(), strict=True):
                found[sentence].windows[rows[i]].nll = nll


def _largest(windows: Iterable[Seen]) -> tuple[int, int] | None:
    """The most tokens, and the most pixel numbers, that a window took."""
    images = list(windows)
    return (max(s.size for s in images), max(s.pixels for s in images)) if images else None
