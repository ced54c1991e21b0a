"""An editor without a calibration: it takes in what it is asked about, and calibrates itself once that suffices."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence

from PIL import Image

from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.calibration.measure import ENOUGH
from reasonedit.errors import ReasonEditError
from reasonedit.pipeline import EditingPipeline
from reasonedit.recalibrate import recalibrate
from reasonedit.vlm import Vision

_log = logging.getLogger(__name__)


class ColdStart:
    """Takes in the pictures of questions and edits; with the 64th distinct one the codebook is calibrated.

    Until then facts are fetched more cautiously; see :func:`reasonedit.calibration.applied.cautious`. Of a picture only
    the means of its tokens are kept, in memory.

    Args:
        pipeline: What works on the codebook.
        enough: How many pictures suffice.
    """

    def __init__(self, pipeline: EditingPipeline, enough: int = ENOUGH) -> None:
        self._pipeline = pipeline
        self._pictures = GatheredPictures(pipeline.embedder, enough)
        self._lock = threading.Lock()
        self._over = False

    @classmethod
    def of(cls, pipeline: EditingPipeline) -> ColdStart | None:
        """That of a pipeline; ``None`` where its design names other pictures, or it is calibrated."""
        return cls(pipeline) if pipeline.statistics.awaits_pictures and pipeline.embedder.layers else None

    def take(self, images: Sequence[Image.Image], vision: Vision | None = None) -> None:
        """Take in pictures, and calibrate where they suffice.

        Args:
            images: The pictures.
            vision: Their vision pass, where there was one.
        """
        with self._lock:
            if self._over or not self._pipeline.statistics.awaits_pictures:
                return
            self._pictures.take(images, vision)
            self._over = self._pictures.full
            if not self._over:
                return
        try:
            made = self._pictures.calibration("pictures that were asked about and edited")
            anew = recalibrate(self._pipeline, made)
        except ReasonEditError as error:
            _log.warning("The codebook stays as it is, and cautious: it could not be calibrated (%s)", error)
            return
        _log.info(
            "Calibrated by the first %d pictures that were asked about and edited; %d edits were embedded again.",
            made.record.pictures,
            anew,
        )
