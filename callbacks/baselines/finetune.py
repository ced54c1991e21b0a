"""FT: one layer is fine-tuned on each edit."""

from __future__ import annotations

from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.types import Edit

from .layer import LayerEditor, Weights
from .lesson import Lesson, learning

LEARNT = 0.05
"""Mean loss per token from which an answer counts as learnt: the model gives it some 95 % at each token."""


def tuned(lesson: Lesson, weight: Tensor, put: Any, *, steps: int, lr: float) -> Tensor:
    """A layer's weight, changed by Adam until the lesson is learnt or the steps are used up.

    Args:
        lesson: The lesson.
        weight: The weight to begin with, float32.
        put: Called with the parameter (and ``None`` in the end): the layer's hook works with it meanwhile.
        steps: The most steps.
        lr: Learning rate.
    """
    parameter = nn.Parameter(weight.clone())
    adam = torch.optim.Adam([parameter], lr=lr)
    put(parameter)
    try:
        for _ in range(steps):
            loss = lesson.losses().mean()
            if float(loss.detach()) < LEARNT:
                break
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    finally:
        put(None)
    return parameter.detach()


class FineTuning(LayerEditor):
    """Fine-tunes the last language block's way out of its MLP on each edit, until it is learnt or a cap is reached.

    The edits pile up in the one weight; when the run ends the model has its own again, bit for bit.

    Args:
        layer: A linear layer of the language model, or the number of a block, whose last linear layer is meant.
        steps: The most steps of Adam for one edit.
        lr: Its learning rate.
    """

    title = "FT"

    def __init__(self, layer: str | int = -1, steps: int = 50, lr: float = 1e-4) -> None:
        super().__init__(layer)
        self.steps, self.lr = steps, lr
        self.weights = Weights(self)
        self._learning: nn.Parameter | None = None

    def install(self) -> None:
        """Hook the layer, and put its weight in; see :meth:`LayerEditor.install`."""
        super().install()
        self.weights.install()

    def remove(self) -> None:
        """Give the model its own weight back; see :meth:`LayerEditor.remove`."""
        super().remove()
        self.weights.restore()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Fine-tune; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        (layer,) = self.layers
        with learning():
            prompt = self.vlm.prompt(edit.question, edit.choices)
            vision, ending = self.vlm.see([edit.image]), not edit.choices
            lesson = Lesson(self.vlm, vision, [prompt], [edit.answer], self.layers, ending=ending)
            self.weights.change(
                layer, tuned(lesson, self.weights.now(layer), self._learn, steps=self.steps, lr=self.lr)
            )

    def _learn(self, parameter: nn.Parameter | None) -> None:
        self._learning = parameter

    def passing(self, name: str, entering: Tensor, leaving: Tensor) -> Tensor | None:
        """While it learns, what the learning weight makes; see :meth:`LayerEditor.passing`."""
        if self._learning is None:
            return None
        return nn.functional.linear(entering, self._learning.to(entering.dtype), self.linear(name).bias)
