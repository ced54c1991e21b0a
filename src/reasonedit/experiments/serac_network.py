"""SERAC for experiments: its networks are trained once for a model, and kept in the cache."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.callbacks.baselines import SERAC, serac_training

from .train_once import LearnsFirst, network_path, train_once, training_stream

if TYPE_CHECKING:
    from .lab import Lab

TRAINING_EDITS = 200
"""How many edits SERAC is trained on."""


class TrainedSERAC(SERAC, LearnsFirst):
    """SERAC, whose networks are trained before its first run with a model.

    Args:
        lab: Where the model and its data are.
        scope: What counts as in scope in training, see :data:`.serac_training.SCOPES`.
        threshold: As for :class:`SERAC`.
    """

    def __init__(self, lab: Lab, scope: str = "near", threshold: float = 0.5) -> None:
        code, encoder = [serac_training, SERAC], lab.encoder("embedded")
        super().__init__(network_path(lab, "serac", TRAINING_EDITS, code, encoder=encoder, scope=scope), threshold)
        self._lab, self.scope = lab, scope

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Train the networks where there are none; see :meth:`SERAC.setup`."""
        if self.network is None:
            train_once(self._path, "SERAC", self._train)
        super().setup(trainer, pl_module, stage)

    def _train(self, path: Path) -> None:
        source = training_stream(self._lab, TRAINING_EDITS).source
        serac = SERAC.with_new_network(self._lab.module.vlm)
        for _ in serac_training.train(serac, source, steps=self._lab.mend_steps, scope=self.scope):
            pass
        assert serac.network is not None
        serac.network.save(path, serac.fingerprint())
