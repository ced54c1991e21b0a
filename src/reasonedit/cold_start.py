"""An editor without a calibration: it takes in what it is asked about, and calibrates itself once that suffices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.calibration.measure import ENOUGH
from reasonedit.codebook.disk.lock import WriterLock
from reasonedit.errors import ReasonEditError, UnavailableError
from reasonedit.pipeline import EditingPipeline
from reasonedit.recalibrate import recalibrate
from reasonedit.vlm import Vision

FIRST = 32
"""Distinct pictures by which a codebook is calibrated for the first time. On development seeds 104 and 105 of the
embedded world (40 edits) so many reach All .894; 16 reach .863, fixed patterns with cautious bounds .810."""

_SOURCE = "pictures that were asked about and edited"
_FIRST_PAUSE = 64
"""After so many more pictures, repeated ones too, what failed is tried again; then after twice as many, and so on."""

_log = logging.getLogger(__name__)


class ColdStart:
    """Takes in the pictures of questions and edits; with the 32nd distinct one the codebook is calibrated.

    With the 64th it is so again, by all of them, and then no more. Before the first time facts are fetched more
    cautiously; see :func:`reasonedit.calibration.applied.cautious`. Of a picture only the means of its tokens are kept,
    in memory. A codebook that is only read is not calibrated: its keys in the folder would be of other statistics.

    Args:
        pipeline: What works on the codebook.
        first: How many pictures suffice for the first time.
        enough: How many suffice for good.
    """

    def __init__(self, pipeline: EditingPipeline, first: int = FIRST, enough: int = ENOUGH) -> None:
        self._pipeline = pipeline
        self._first, self._enough = min(first, enough), enough
        self._pictures = GatheredPictures(pipeline.embedder, enough)
        self._lock = threading.Lock()
        self._tries = False  # whether a thread calibrates at the moment
        self._pause, self._next_pause = 0, _FIRST_PAUSE
        self._over = self._said_only_read = False

    @classmethod
    def of(cls, pipeline: EditingPipeline) -> ColdStart | None:
        """That of a pipeline; ``None`` where its design names other pictures, or it is calibrated for good."""
        return cls(pipeline) if _awaits_pictures(pipeline) or _may_improve(pipeline, ENOUGH) else None

    def take(self, images: Sequence[Image.Image], vision: Vision | None = None) -> None:
        """Take in pictures, and calibrate where they suffice.

        Args:
            images: The pictures.
            vision: Their vision pass, where there was one.
        """
        with self._lock:
            if self._over or self._tries or not self._awaits_more() or self._is_only_read():
                return
            self._pictures.take(images, vision)
            self._pause -= len(images)
            if not self._suffices() or self._pause > 0:
                return
            self._tries = True
        pause, next_pause = self._next_pause, 2 * self._next_pause
        try:
            self._calibrate()
            pause, next_pause = 0, _FIRST_PAUSE
        except UnavailableError as error:  # it may pass
            _log.warning(
                "The codebook stays as it is, and cautious, until it can be calibrated; that is tried again after %d "
                "more pictures (%s)",
                self._next_pause,
                error,
            )
        except ReasonEditError as error:
            self._over = True
            _log.warning("The codebook stays as it is, and cautious: it could not be calibrated (%s)", error)
        finally:
            with self._lock:
                self._pause, self._next_pause, self._tries = pause, next_pause, False

    def _awaits_more(self) -> bool:
        return self._pipeline.statistics.awaits_pictures or _may_improve(self._pipeline, self._enough)

    def _suffices(self) -> bool:
        return self._pictures.full or (self._pipeline.statistics.awaits_pictures and len(self._pictures) >= self._first)

    def _is_wanted(self) -> bool:
        """Whether nobody else has calibrated the codebook meanwhile; called in its guard."""
        self._pipeline.statistics.take_in(self._pipeline.memory)
        return self._awaits_more() and self._suffices()

    def _calibrate(self) -> None:
        pipeline, store = self._pipeline, self._pipeline.memory.store
        if store is not None:
            with WriterLock(store.folder, patience=0).hold():
                pass  # where somebody else writes, that is known before every edit is embedded, and no question waits
        pipeline.memory.refresh()
        with pipeline.memory.guard:
            if not self._is_wanted():
                return
        made = self._pictures.calibration(_SOURCE)
        anew = recalibrate(pipeline, made, wanted=self._is_wanted)
        if anew is None:
            return
        _log.info(
            "Calibrated by the first %d pictures that were asked about and edited; %d edits were embedded again.",
            made.record.pictures,
            anew,
        )

    def _is_only_read(self) -> bool:
        store = self._pipeline.memory.store
        if store is None or not store.read_only:
            return False
        if self._pipeline.statistics.awaits_pictures and not self._said_only_read:
            self._said_only_read = True
            _say_only_read(store.folder)
        return True


def only_ask(pipelines: Sequence[EditingPipeline]) -> None:
    """Have questions calibrate nothing: whoever asks is not to change a codebook in a folder.

    Where it has no calibration, the log says so, once for all copies of a model.

    Args:
        pipelines: What works on the codebook: one for each copy of the model.
    """
    kept = [pipeline for pipeline in pipelines if pipeline.memory.store is not None]
    for pipeline in kept:
        pipeline.watch = lambda _images, _vision: None
    for folder in dict.fromkeys(p.memory.store.folder for p in kept if p.memory.store and _awaits_pictures(p)):
        _say_only_read(folder)


def _awaits_pictures(pipeline: EditingPipeline) -> bool:
    return pipeline.statistics.awaits_pictures and bool(pipeline.embedder.layers)


def _may_improve(pipeline: EditingPipeline, enough: int) -> bool:
    """Whether a codebook is calibrated by the first pictures that were asked about, before there were enough."""
    record = pipeline.statistics.record
    return record is not None and record.source == _SOURCE and record.pictures < enough


def _say_only_read(folder: Path) -> None:
    _log.warning(
        "The codebook in '%s' has no calibration, and none is made as it is only read: facts are fetched cautiously. "
        "'reasonedit calibrate --codebook FOLDER --pictures PICTURES' calibrates a codebook.",
        folder,
    )
