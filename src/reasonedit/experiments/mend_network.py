"""MEND for experiments: its network is trained once for a model, and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.callbacks.baselines import MEND, mend_training

from .train_once import LearnsFirst, network_path, train_once, training_stream

if TYPE_CHECKING:
    from .lab import Lab

TRAINING_EDITS = 300
"""How many edits MEND is trained on."""


class TrainedMEND(MEND, LearnsFirst):
    """MEND, whose network is trained before its first run with a model.

    Args:
        lab: Where the model and its data are.
        edit_weight: How much the edit weighs in training, see :func:`.mend_training.train`.
        scale: As for :class:`MEND`.
    """

    def __init__(self, lab: Lab, edit_weight: float = mend_training.EDIT_WEIGHT, scale: float = 1.0) -> None:
        path = network_path(lab, "mend", TRAINING_EDITS, [mend_training, MEND], edit_weight=edit_weight)
        super().__init__(path, scale)
        self._lab, self.edit_weight = lab, edit_weight

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Train the network where there is none; see :meth:`MEND.setup`."""
        if self.network is None:
            train_once(self._path, "MEND", self._train)
        super().setup(trainer, pl_module, stage)

    def _train(self, path: Path) -> None:
        source = training_stream(self._lab, TRAINING_EDITS).source
        mend = MEND.with_new_network(self._lab.module.vlm)
        for _ in mend_training.train(mend, source, steps=self._lab.mend_steps, edit_weight=self.edit_weight):
            pass
        assert mend.network is not None
        assert mend.vlm is not None
        mend.network.save(path, mend.vlm.fingerprint)
