"""Pictures that pass the vision part anyway: what a calibration needs of them is kept, and no picture (ours)."""

from __future__ import annotations

import time
from collections.abc import Sequence

from PIL import Image

from reasonedit.embedding import DualEmbedder
from reasonedit.embedding.statistics import ReferenceTokens
from reasonedit.vlm import Vision

from .calibration import Calibration
from .measure import check_count, finish
from .pictures import CalibrationPictures, pixels_of
from .record import CalibrationRecord


class GatheredPictures:
    """Takes in distinct pictures until there are enough; only means of their tokens are kept.

    Regions that pass the vision part by themselves do so here where that did not happen before: their vectors are of
    another kind than those pooled from the one pass of the whole.

    Args:
        embedder: Reads the layer.
        most: How many pictures are enough.
        least: How many there should be, if there are as many.

    Attributes:
        reference: What was taken in.
        seconds: How long that took.
    """

    def __init__(self, embedder: DualEmbedder, most: int, least: int = 0) -> None:
        self.embedder = embedder
        self.most = most
        self.least = least
        self.reference = ReferenceTokens()
        self.seconds = 0.0
        self._seen: set[str] = set()

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def full(self) -> bool:
        """Whether there are enough."""
        return len(self) >= self.most

    @property
    def wanted(self) -> int:
        """How many more there should be."""
        return max(0, self.least - len(self))

    def take(self, images: Sequence[Image.Image], vision: Vision | None = None, *, mine: bool = True) -> None:
        """Take in pictures, except those that came before. Where they cannot be read, none of them counts.

        Args:
            images: The pictures.
            vision: Their vision pass, where there was one already that kept the embedder's layers.
            mine: Whether they are taken in here, rather than by another rank: then they are only counted.
        """
        started = time.perf_counter()
        rows: dict[str, int] = {}
        for row, image in enumerate(images):
            if len(self) + len(rows) >= self.most:
                break
            name = pixels_of(image)
            if name not in self._seen:
                rows.setdefault(name, row)
        if rows and mine:
            self._read(images, list(rows.values()), vision)
        self._seen.update(rows)
        self.seconds += time.perf_counter() - started

    def _read(self, images: Sequence[Image.Image], rows: Sequence[int], vision: Vision | None) -> None:
        """Add some of the pictures to the reference: all of these, or none."""
        new, reference = [images[row] for row in rows], ReferenceTokens()
        passed = vision.select(rows) if vision is not None and self.embedder.has(vision) else None
        if not self.embedder.has(passed, regions=True):
            passed = self.embedder.see(new, regions=True, vision=passed)
        self.embedder.read(new, reference, passed)
        self.reference.merge(reference)

    def calibration(self, source: str) -> Calibration:
        """The calibration by what was taken in.

        Args:
            source: What the pictures are called.

        Raises:
            InputError: They are too few.
        """
        started = time.perf_counter() - self.seconds
        pictures = CalibrationPictures(source, [], 0)
        count = check_count(len(self.reference.wholes), pictures)
        record = CalibrationRecord.of(self.embedder, count, source)
        return finish(self.embedder.measure(self.reference), record, pictures, started)
