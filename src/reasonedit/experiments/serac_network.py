"""SERAC for experiments: its networks are trained once for a model, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.callbacks.baselines import SERAC, serac_training
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import versions_of

from .cells import LIBRARIES, Cell
from .mend_network import TRAINING_SEED
from .train_once import train_once

if TYPE_CHECKING:
    from .lab import Lab

TRAINING_EDITS = 200
"""What SERAC is trained on, of the seed that MEND is trained on, too."""
_CELL = Cell("serac", "SERAC", TRAINING_SEED, lambda _lab: [])
_log = logging.getLogger(__name__)


class TrainedSERAC(SERAC):
    """SERAC, whose networks are trained before its first run with a model.

    Args:
        lab: Where the model and its data are.
        scope: What counts as in scope in training, see :data:`.serac_training.SCOPES`.
        threshold: As for :class:`SERAC`.
    """

    def __init__(self, lab: Lab, scope: str = "near", threshold: float = 0.5) -> None:
        super().__init__(network_path(lab, scope), threshold)
        self._lab, self.scope = lab, scope

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Train the networks where there are none; see :meth:`SERAC.setup`."""
        if self.network is None:
            train_once(self._path, lambda: train_networks(self._lab, self._path, self.scope))
        super().setup(trainer, pl_module, stage)


def network_path(lab: Lab, scope: str) -> Path:
    """Where the networks are kept: for this model, steps, scope, training data, encoder, code and libraries."""
    data, classes, arguments = lab.data_record(_CELL)
    made_by = {
        "model": {name: value for name, value in lab.model_record.items() if name != "name"},
        "encoder": lab.encoder("embedded"),
        "steps": lab.mend_steps,
        "edits": TRAINING_EDITS,
        "scope": scope,
        "data": data,
        "files": lab.checksums(arguments),
        "code": lab.code([serac_training, SERAC, type(lab.module.vlm), *classes]),
        "libraries": versions_of(LIBRARIES),
    }
    content = json.dumps(made_by, sort_keys=True, default=str)
    return cache_folder() / "serac" / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


def train_networks(lab: Lab, path: Path, scope: str) -> None:
    """Train the networks, on a seed of the source that no experiment uses.

    Args:
        lab: Where the model and its data are.
        path: The file to write.
        scope: As for :class:`TrainedSERAC`.
    """
    stream = lab.stream(_CELL)
    stream.source.edits = TRAINING_EDITS
    serac = SERAC.with_new_network(lab.module.vlm)
    _log.warning("SERAC's networks are trained, once: %d steps, a few minutes.", lab.mend_steps)
    for _ in serac_training.train(serac, stream.source, steps=lab.mend_steps, scope=scope):
        pass
    assert serac.network is not None
    part = path.with_name(f".{path.name}.{os.getpid()}")
    serac.network.save(part, serac.fingerprint())  # moved into place once it is complete
    part.replace(path)
