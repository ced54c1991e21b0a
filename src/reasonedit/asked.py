"""Questions as they are embedded, and the statistics by which they are: those of the codebook's keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from reasonedit.boxes import Box
from reasonedit.calibration import Calibration, CalibrationRecord, PictureRange
from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.disk.errors import DamagedError
from reasonedit.embedding import DualEmbedder, Statistics, statistics_of, tensors_of
from reasonedit.embedding.reference import OWN, PATTERNS
from reasonedit.errors import InputError
from reasonedit.vlm import Vision


@dataclass(frozen=True)
class Asked:
    """Questions about pictures, embedded.

    Attributes:
        keys: (B, R, D): a key for each region that is looked at, the whole image last.
        in_range: Whether the picture of each is like those of the calibration; ``None`` where that is not looked at.
        statistics: By which statistics they are embedded; ``None`` where the embedding needs none.
    """

    keys: Tensor
    in_range: list[bool | None]
    statistics: Statistics | None


class CurrentStatistics:
    """The statistics by which the keys in a codebook are made: whoever writes into its folder may calibrate it anew.

    Args:
        embedder: What embeds by them.
        calibration: The calibration that they are of, if they are of one.

    Attributes:
        record: What that calibration was made of.
    """

    def __init__(self, embedder: DualEmbedder, calibration: Calibration | None = None) -> None:
        self.embedder = embedder
        self.record: CalibrationRecord | None = None
        self._digest = ""
        if calibration is not None:
            self.use(calibration)
        self._range: tuple[Statistics, float, PictureRange | None] | None = None

    @property
    def value(self) -> Statistics | None:
        """The statistics; measured when they are first needed, and ``None`` where the embedding needs none."""
        return self.embedder.statistics if self.embedder.width else None

    @property
    def awaits_pictures(self) -> bool:
        """Whether the design takes the user's own pictures for its reference, and there was no calibration by them.

        Never where no vision-side layer is read: there is nothing to calibrate.
        """
        return self.embedder.config.reference == OWN and self.record is None and bool(self.embedder.layers)

    @property
    def _say_range(self) -> bool:
        """Whether a picture can be like those of the statistics: none is like patterns."""
        return self.record is not None or self.embedder.config.reference not in (OWN, PATTERNS)

    def use(self, calibration: Calibration) -> None:
        """Embed by a calibration from now on; keys that are there already have to be made by it, too.

        Raises:
            MismatchError: It was made for another VLM or setting.
        """
        calibration.record.check(self.embedder)
        self.embedder.use(calibration.statistics)
        self.record = calibration.record

    def go_on_with(self, other: CurrentStatistics) -> None:
        """Embed by those of another pipeline from now on, by which the keys in the codebook were made."""
        self.embedder.use(other.value)
        self.record, self._digest = other.record, other._digest

    def to_config(self) -> dict[str, Any]:
        """What a codebook's manifest says of them."""
        return {} if self.record is None else {"calibration": self.record.to_dict()}

    def note(self, store: Store | None) -> None:
        """Take the statistics in use for those of the codebook's folder, and read there what they were made of.

        Args:
            store: The folder; where there is none, nothing is to be noted.

        Raises:
            InputError: The manifest says it in a way that is not understood.
        """
        if store is None:
            return
        self._digest = store.manifest.statistics_digest
        values = store.manifest.config.get("calibration")
        try:
            self.record = None if values is None else CalibrationRecord.from_dict(values)
        except TypeError as error:
            raise InputError(
                f"The codebook in '{store.folder}' does not say how it was calibrated ({error}): its manifest "
                "was written by something else."
            ) from error

    def take_in(self, memory: EditMemory) -> None:
        """Embed by the statistics of the codebook's folder, if others have calibrated it anew; called in its guard.

        Raises:
            DamagedError: The folder is damaged.
        """
        store = memory.store
        while store is not None and store.manifest.statistics_digest != self._digest:
            try:
                statistics = statistics_of(store.statistics())
            except DamagedError:  # the folder may have been written anew once more
                if not memory.refresh():
                    raise
                continue
            self.embedder.use(statistics)
            self.note(store)

    def keep(self, memory: EditMemory) -> None:
        """Write the statistics into the codebook's folder where a repair left none, before keys are made by them.

        A folder of reference pictures may hold others the next time.

        Raises:
            ReasonEditError: The folder is damaged, or cannot be written.
        """
        if memory.store is None or memory.store.manifest.statistics is not None or self.value is None:
            return
        with memory.changing():
            self.take_in(memory)  # others may have written some meanwhile
            manifest, statistics = memory.store.manifest, self.value
            if manifest.statistics is None and statistics is not None:
                memory.replace_keys({}, tensors_of(statistics), manifest.config)
                self._digest = memory.store.manifest.statistics_digest

    def in_range(self, vision: Vision, boxes: Sequence[Box], rate: float | None) -> list[bool | None]:
        """Whether pictures are like those of the calibration.

        Args:
            vision: The pictures.
            boxes: Their regions that are embedded, the whole last.
            rate: How often one that is like them may be taken for unlike; not looked at where there is none.
        """
        looks = rate is not None and not self.embedder.reads_language and self._say_range
        statistics = self.value if looks else None
        if rate is None or statistics is None:
            return [None] * len(vision)
        if self._range is None or self._range[0] is not statistics or self._range[1] != rate:
            self._range = (statistics, rate, PictureRange.of(statistics, rate))
        pictures = self._range[2]
        if pictures is None:
            return [None] * len(vision)
        return [pictures.contains(query) for query in self.embedder.along(vision, [boxes] * len(vision))]
