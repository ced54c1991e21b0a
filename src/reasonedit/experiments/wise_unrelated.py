"""WISE for experiments: its unrelated questions are those of edits that are not tested."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import lightning as L

from reasonedit.callbacks.baselines import WISE
from reasonedit.groups import LOCALITIES
from reasonedit.types import Query

from .train_once import LearnsFirst, training_stream

if TYPE_CHECKING:
    from .lab import Lab

UNRELATED = 40
"""The most questions that WISE is told to leave alone."""
_EDITS = 10  # whose localities they are


class InformedWISE(WISE, LearnsFirst):
    """WISE, which is told of questions that no edit has to do with, as in its paper.

    Args:
        lab: Where the model and its data are.
        layer: As for :class:`WISE`, like the next two.
        margin: As there.
        ratio: As there.
    """

    def __init__(self, lab: Lab, layer: str | int = -6, margin: float = 0.2, ratio: float = 0.2) -> None:
        super().__init__(layer, margin=margin, ratio=ratio)
        self._lab = lab

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Draw the questions; see :meth:`WISE.setup`."""
        super().setup(trainer, pl_module, stage)
        self.unrelated = self.unrelated or tuple(unrelated_queries(self._lab))


def unrelated_queries(lab: Lab) -> list[Query]:
    """Localities of edits that are not tested, at even steps.

    Args:
        lab: Where the data are.

    Raises:
        NotServedError: The source gives no other edits.
    """
    source = training_stream(lab, _EDITS).source
    edits = list(islice(source.candidates(), _EDITS))
    far = [p for p in source.probes(edits, [e.id for e in edits]) if p.group in LOCALITIES and not p.query.text_only]
    step = max(1, -(-len(far) // UNRELATED))
    return [probe.query for probe in far[::step]]
