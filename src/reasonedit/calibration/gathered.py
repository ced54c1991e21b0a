"""Pictures that pass the vision part anyway: what a calibration needs of them is kept, and no picture (ours)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from PIL import Image

from reasonedit.embedding import DualEmbedder
from reasonedit.embedding.statistics import ReferenceTokens
from reasonedit.vlm import Vision

from .calibration import Calibration
from .measure import finish
from .pictures import CalibrationPictures, pixels_of
from .record import CalibrationRecord


class GatheredPictures:
    """Takes in distinct pictures until there are enough; only means of their tokens are kept.

    Regions that pass the vision part by themselves do so here where that did not happen before: their vectors are of
    another kind than those pooled from the one pass of the whole.

    Args:
        embedder: Reads the layer.
        most: How many pictures are enough.

    Attributes:
        reference: What was taken in.
        seconds: How long that took.
    """

    def __init__(self, embedder: DualEmbedder, most: int) -> None:
        self.embedder = embedder
        self.most = most
        self.reference = ReferenceTokens()
        self.seconds = 0.0
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return len(self) >= self.most

    def take(self, images: Sequence[Image.Image], vision: Vision | None = None, *, mine: bool = True) -> None:
        """Take in pictures, except those that came before.

        Args:
            images: The pictures.
            vision: Their vision pass, where there was one already that kept the embedder's layers.
            mine: Whether they are taken in here, rather than by another rank: then they are only counted.
        """
        started, rows = time.perf_counter(), []
        for row, image in enumerate(images):
            name = "" if self.full else pixels_of(image)
            if name and name not in self._seen:
                self._seen.add(name)
                rows.append(row)
        if rows and mine:
            new = [images[row] for row in rows]
            passed = vision.select(rows) if vision is not None and self.embedder.has(vision) else None
            if not self.embedder.has(passed, regions=True):
                passed = self.embedder.see(new, regions=True, vision=passed)
            self.embedder.read(new, self.reference, passed)
        self.seconds += time.perf_counter() - started

    def calibration(self, source: str) -> Calibration:
        """The calibration by what was taken in.

        Args:
            source: What the pictures are called.
        """
        started = time.perf_counter() - self.seconds
        count = len(self.reference.wholes)
        record = replace(CalibrationRecord.of(self.embedder, count, source))
        pictures = CalibrationPictures(source, [], 0)
        return finish(self.embedder.measure(self.reference), record, pictures, started)
