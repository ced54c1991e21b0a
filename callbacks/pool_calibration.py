"""Calibrates a codebook by the pool of its stream, before the first edit."""

from __future__ import annotations

import logging
from typing import Any

import lightning as L
from safetensors.torch import load, save
from torch import Tensor

from reasonedit.calibration import Calibration
from reasonedit.calibration.gathered import GatheredPictures
from reasonedit.calibration.measure import LEAST
from reasonedit.data.stream import EditStream
from reasonedit.embedding import statistics_of, tensors_of
from reasonedit.embedding.statistics import ReferenceTokens
from reasonedit.pipeline import EditingPipeline
from reasonedit.ranks import exchange
from reasonedit.recalibrate import recalibrate

MOST = 150
"""Pictures of a pool that are used."""
ENOUGH = 64
"""Where the base pass shows fewer, further ones of the pool are seen. On development seeds, at 1 % of false alarms, 64
pictures in place of 32 found .90 in place of .69 of the known things again, and .71 in place of .58 of the others."""

_log = logging.getLogger(__name__)


class PoolCalibration:
    """Has the base pass of a stream keep what a calibration needs of its pictures: they are seen once for both.

    It does so where the design's reference is ``"own"``, nothing was edited yet and no calibration was given. The
    pictures are those of the samples that are asked to find the edits, and of the samples after them where these are
    few; neither their answers nor any probe count. Where regions pass the vision part as crops, those of these pictures
    pass in addition, as keys and questions are compared with them, and so do views of parts where features are
    whitened; where all answers of the base pass are known from earlier, the pictures pass for this alone.
    """

    def __init__(self) -> None:
        self._pool: GatheredPictures | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> PoolCalibration:
        """One without pictures: a copied callback is in no run."""
        return PoolCalibration()

    def begin(self, trainer: L.Trainer, pipeline: EditingPipeline) -> None:
        """Ask the stream of a run for its pictures.

        Args:
            trainer: The trainer.
            pipeline: What works on the codebook.
        """
        self._pool = None
        data = getattr(trainer, "datamodule", None)
        fresh = pipeline.statistics.awaits_pictures and not pipeline.memory.events
        if isinstance(data, EditStream):
            if fresh and pipeline.embedder.layers:
                self._pool = GatheredPictures(pipeline.embedder, MOST, ENOUGH)
            data.pool = self._pool

    def finish(self, trainer: L.Trainer, pipeline: EditingPipeline) -> None:
        """Calibrate by what the ranks took in; all of them get the very same statistics."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        merged = ReferenceTokens()
        for message in exchange(trainer, _pack(pool.reference.tensors())):
            merged.merge(ReferenceTokens.of_tensors(load(message) if message else {}))
        pool.reference = merged
        if len(merged.wholes) < LEAST:
            if trainer.is_global_zero:
                _log.warning(
                    "The stream has %d distinct pictures: too few to calibrate with; facts are fetched cautiously.",
                    len(merged.wholes),
                )
            return
        made = pool.calibration("the pool of the stream")
        (first, *_) = exchange(trainer, _pack(tensors_of(made.statistics)) if trainer.is_global_zero else b"")
        statistics = statistics_of(load(first))
        assert statistics is not None
        recalibrate(pipeline, Calibration(statistics, made.record))  # an empty codebook may be in a folder already


def _pack(tensors: dict[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in tensors.items()}) if tensors else b""
