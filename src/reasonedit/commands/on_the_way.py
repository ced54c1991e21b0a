"""What a run logs on the way, where its config does not say: curves over the edits."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.loggers import TensorBoardLogger

import reasonedit.callbacks as cb
from reasonedit.data.stream import EditStream

_POINTS = 10
"""About how many points a curve has."""
_SHARE = 0.15
"""Probes on the way, as a share of those at the end: what the curves cost."""
_LEAST = 2
"""Edits that are probed at each point at least."""


def log_on_the_way(trainer: L.Trainer, data: L.LightningDataModule | None) -> None:
    """Have a run that logs to TensorBoard ask probes of a few edits on the way, and draw its charts.

    A config that says when there are probes, or has charts of its own, is left as it is. There are probes between whole
    batches of edits only, so that the answers at the end are what they would be without them.

    Args:
        trainer: The run's trainer, with the callbacks of its config.
        data: The run's data.
    """
    if not any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers):
        return
    if cb.find_callback(trainer, cb.TensorBoardCharts) is None:
        trainer.callbacks.append(cb.TensorBoardCharts())  # type: ignore[attr-defined]
    metrics = cb.find_callback(trainer, cb.EditingMetrics)
    if metrics is None or not isinstance(data, EditStream) or data.interleave is not None or data.alone or data.check:
        return
    every, sample = points_of(data.source.edits, data.batch_size)
    if every < data.source.edits:
        data.interleave, data.sample = every, sample if data.sample is None else data.sample


def points_of(edits: int, batch_size: int) -> tuple[int, int]:
    """After how many edits there are probes, and of how many edits each time.

    >>> points_of(500, 8), points_of(20, 8)
    ((48, 8), (8, 2))
    """
    every = batch_size * max(1, round(edits / (_POINTS * batch_size)))
    stops = max(1, (edits - 1) // every)
    return every, max(_LEAST, round(_SHARE * edits / stops))
