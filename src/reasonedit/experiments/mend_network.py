"""MEND for experiments: its network is trained once for a model, and kept in the cache."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.callbacks.baselines import MEND, mend_training
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import versions_of

from .cells import LIBRARIES, Cell
from .train_once import train_once

if TYPE_CHECKING:
    from .lab import Lab

TRAINING_SEED, TRAINING_EDITS = 1000, 300
"""What MEND is trained on: a seed that is far from those of development and reporting."""
_CELL = Cell("mend", "MEND", TRAINING_SEED, lambda _lab: [])
_log = logging.getLogger(__name__)


class TrainedMEND(MEND):
    """MEND, whose network is trained before its first run with a model.

    Args:
        lab: Where the model and its data are.
        edit_weight: How much the edit weighs in training, see :func:`.mend_training.train`.
        scale: As for :class:`MEND`.
    """

    def __init__(self, lab: Lab, edit_weight: float = mend_training.EDIT_WEIGHT, scale: float = 1.0) -> None:
        super().__init__(network_path(lab, edit_weight), scale)
        self._lab, self.edit_weight = lab, edit_weight

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Train the network where there is none; see :meth:`MEND.setup`."""
        if self.network is None:
            train_once(self._path, lambda: train_network(self._lab, self._path, self.edit_weight))
        super().setup(trainer, pl_module, stage)


def network_path(lab: Lab, edit_weight: float = mend_training.EDIT_WEIGHT) -> Path:
    """Where the network is kept: for this model, steps, weight of the edit, training data, code and libraries."""
    data, classes, arguments = lab.data_record(_CELL)
    made_by = {
        "model": {name: value for name, value in lab.model_record.items() if name != "name"},
        "steps": lab.mend_steps,
        "edits": TRAINING_EDITS,
        "edit_weight": edit_weight,
        "data": data,
        "files": lab.checksums(arguments),
        "code": lab.code([mend_training, MEND, type(lab.module.vlm), *classes]),
        "libraries": versions_of(LIBRARIES),
    }
    content = json.dumps(made_by, sort_keys=True, default=str)
    return cache_folder() / "mend" / f"{hashlib.sha256(content.encode()).hexdigest()}.safetensors"


def train_network(lab: Lab, path: Path, edit_weight: float = mend_training.EDIT_WEIGHT) -> None:
    """Train the network, on a seed of the source that no experiment uses.

    Args:
        lab: Where the model and its data are.
        path: The file to write.
        edit_weight: How much the edit weighs.
    """
    stream = lab.stream(_CELL)
    stream.source.edits = TRAINING_EDITS
    mend = MEND.with_new_network(lab.module.vlm)
    _log.warning("MEND's network is trained, once: %d steps, a few minutes.", lab.mend_steps)
    for _ in mend_training.train(mend, stream.source, steps=lab.mend_steps, edit_weight=edit_weight):
        pass
    assert mend.network is not None
    assert mend.vlm is not None
    part = path.with_name(f".{path.name}.{os.getpid()}")
    mend.network.save(part, mend.vlm.fingerprint)  # moved into place once it is complete
    part.replace(path)
