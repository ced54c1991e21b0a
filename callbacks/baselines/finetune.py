"""FT: one layer is fine-tuned on each edit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from reasonedit.types import Edit

from .layer import EditedWeights, LayerEditor
from .training_example import TrainingExample, enable_gradients

LEARNT = 0.05
"""Mean loss per token from which an answer counts as learnt: the model gives it some 95 % at each token."""


def tune_weight(
    example: TrainingExample, weight: Tensor, use: Callable[[nn.Parameter | None], None], *, steps: int, lr: float
) -> Tensor:
    """Change a layer's weight by Adam until the answer is learnt or the steps are used up.

    Args:
        example: What is learnt.
        weight: The weight to begin with, float32 (width_out, width_in).
        use: Called with the parameter, which the layer's hook works with from then on; with ``None`` at the end.
        steps: The most steps.
        lr: Learning rate.

    Returns:
        The changed weight.
    """
    parameter = nn.Parameter(weight.clone())
    adam = torch.optim.Adam([parameter], lr=lr)
    use(parameter)
    try:
        for _ in range(steps):
            loss = example.losses().mean()
            if float(loss.detach()) < LEARNT:
                break
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
    finally:
        use(None)
    return parameter.detach()


class FineTuning(LayerEditor):
    """Fine-tunes the last linear layer of the last language block on each edit, until it is learnt or a cap is reached.

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
        self.weights = EditedWeights(self)
        self._tuned: nn.Parameter | None = None  # while it is tuned

    def install(self) -> None:
        """Hook the layer, and put its weight in; see :meth:`LayerEditor.install`."""
        super().install()
        self.weights.install()

    def remove(self) -> None:
        """Give the model its own weight back; see :meth:`LayerEditor.remove`."""
        super().remove()
        self.weights.restore()

    def forget(self) -> None:
        """Begin again from the model's own weights; see :meth:`Editor.forget`."""
        assert self.vlm is not None  # set-up ran
        with self.vlm.guard:
            self.weights.forget()

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Fine-tune; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        (layer,) = self.layers
        with enable_gradients():
            prompt = self.vlm.prompt(edit.question, edit.choices)
            vision, ends = self.vlm.see([edit.image]), not edit.choices
            example = TrainingExample(self.vlm, vision, [prompt], [edit.answer], self.layers, ends=ends)
            weight = tune_weight(example, self.weights.current(layer), self._use, steps=self.steps, lr=self.lr)
            self.weights.change(layer, weight)

    def _use(self, parameter: nn.Parameter | None) -> None:
        self._tuned = parameter

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """While a weight is tuned, what it makes; see :meth:`LayerEditor.replace_output`."""
        if self._tuned is None:
            return None
        return nn.functional.linear(inputs, self._tuned.to(inputs.dtype), self.linear(name).bias)
