"""Which part of an image a sentence speaks of (section 2 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from PIL import Image

from reasonedit.boxes import Box
from reasonedit.prompts import DESCRIBE, verification_question
from reasonedit.vlm import VLM, Seen, Vision
from reasonedit.vlm.devices import run_in_parts
from reasonedit.vlm.vision import ReadImages

from .choice import UNVERIFIED, Evidence, WindowScore, choose_windows, keep_single_windows
from .config import EvidenceConfig
from .shortlist import ClipShortlist, Shortlist
from .windows import THIRDS, crop, shrink, windows_of


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
            shortlist = ClipShortlist.from_pretrained(self.config.clip, vlm.device)
        self.shortlist = shortlist
        self._window_size: tuple[int, int] | None = None  # tokens and pixel numbers of a window

    def find(self, image: Image.Image, sentences: Sequence[str]) -> list[Evidence]:
        """Find evidence for each sentence.

        Args:
            image: The upright RGB image.
            sentences: The sentences of a reasoning.

        Returns:
            For each sentence all windows with their scores, and which are kept.
        """
        return self.find_with_windows(image, sentences)[0]

    def find_with_windows(
        self,
        image: Image.Image,
        sentences: Sequence[str],
        layers: Sequence[str] = (),
    ) -> tuple[list[Evidence], dict[Box, Seen]]:
        """Find evidence as :meth:`find` does, and give back the vision passes of the windows that are kept.

        Args:
            image: The upright RGB image.
            sentences: The sentences.
            layers: Layers whose input the passes keep.

        Returns:
            The evidence, and for each window that is kept its pass.
        """
        image = shrink(image)
        boxes = list(THIRDS) if self.config.single_window is not None else windows_of(image.size, self.config.grid)
        crops = [crop(image, box) for box in boxes]
        found = [Evidence(s, [WindowScore(box) for box in boxes]) for s in sentences]
        asked = self._list_sentences(crops, sentences)
        waiting = [i for i, of_window in enumerate(asked) if of_window]
        seen: dict[Box, Seen] = {}

        def score(part: list[int]) -> None:
            vision = self.vlm.see([crops[i] for i in part], layers)
            seen.update({boxes[i]: window for i, window in zip(part, vision.images, strict=True)})
            prefix = self._verify(vision, part, [asked[i] for i in part], found)
            if self.config.single_window is None:
                self._score(prefix, part, found)
            self._window_size = self._window_size or _largest(vision.images)

        # The first window of all tells how much memory one takes; later searches expect that of the last search's.
        if waiting and self._window_size is None:
            run_in_parts(waiting[:1], 1, score)
            waiting = waiting[1:]
        if waiting and self._window_size is not None:
            text_length = sum(len(s) for s in sentences) // 2
            run_in_parts(waiting, self.vlm.images_at_once(*self._window_size, text_length), score)
        self._window_size = _largest(seen.values()) or self._window_size
        self._choose(found)
        kept = {box for evidence in found for box in evidence.boxes}
        return found, {box: window for box, window in seen.items() if box in kept}

    def _list_sentences(self, crops: Sequence[Image.Image], sentences: Sequence[str]) -> list[list[int]]:
        """For each window the numbers of the sentences that are verified against it: all, or by the shortlist."""
        listed: list[Iterable[int]] = [range(len(crops))] * len(sentences)
        if self.config.shortlist is not None and self.shortlist is not None and sentences:
            listed = [sorted(order[: self.config.shortlist]) for order in self.shortlist.rank(crops, sentences)]
        asked: list[list[int]] = [[] for _ in crops]
        for sentence, windows in enumerate(listed):
            for window in windows:
                asked[window].append(sentence)
        return asked

    def _choose(self, found: Sequence[Evidence]) -> None:
        """Keep what is evidence for each sentence."""
        if self.config.single_window is not None:
            keep_single_windows(found, self.config.single_window, self.config.p_yes)
            return
        for evidence in found:
            choose_windows(evidence.windows, self.config.top)

    def _verify(
        self, vision: Vision, rows: Sequence[int], asked: Sequence[Sequence[int]], found: Sequence[Evidence]
    ) -> ReadImages:
        """Verify sentences against a batch of windows.

        Args:
            vision: The windows' passes.
            rows: The windows' numbers.
            asked: For each window the numbers of the sentences.
            found: The evidence of all sentences, whose windows get ``p_yes``.

        Returns:
            The windows as the language model has read them by then.
        """
        prefix = self.vlm.read(vision)
        questions = [[verification_question(found[s].sentence) for s in of_window] for of_window in asked]
        for row, of_window, p in zip(rows, asked, self.vlm.p_yes(prefix, questions), strict=True):
            for sentence, value in zip(of_window, p.tolist(), strict=True):
                window = found[sentence].windows[row]
                window.p_yes, window.why = value, UNVERIFIED
        return prefix

    def _score(self, prefix: ReadImages, rows: Sequence[int], found: Sequence[Evidence]) -> None:
        """Score sentences where they are affirmed: their windows get ``nll``; arguments as for :meth:`_verify`."""
        affirmed = [[e for e in found if (e.windows[row].p_yes or 0.0) > self.config.p_yes] for row in rows]
        scored = [i for i, of_window in enumerate(affirmed) if of_window]
        if not scored:
            return
        prefix.narrow(scored)
        sentences = [[evidence.sentence for evidence in affirmed[i]] for i in scored]
        for i, scores in zip(scored, self.vlm.sentence_nll(prefix, DESCRIBE, sentences), strict=True):
            for evidence, nll in zip(affirmed[i], scores.tolist(), strict=True):
                evidence.windows[rows[i]].nll = nll


def _largest(windows: Iterable[Seen]) -> tuple[int, int] | None:
    """The most tokens, and the most pixel numbers, that a window took."""
    images = list(windows)
    return (max(s.size for s in images), max(s.pixels for s in images)) if images else None
