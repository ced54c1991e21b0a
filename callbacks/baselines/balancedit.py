"""BalancEdit: a tuned copy of a layer per edit, within a radius that two samples set (Guo et al., arXiv 2505.01343)."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.codebook import augment
from reasonedit.codebook.paraphrase import paraphrase
from reasonedit.types import Edit

from .finetune import tune_weight
from .layer import LayerEditor
from .training_example import TrainingExample, clone_vision, enable_gradients


def radius(positive: float, negative: float, alpha: float) -> float:
    """How far an edit reaches: just beyond its positive sample, on the way to the negative one.

    >>> round(radius(0.1, 0.5, 0.05), 3), radius(0.5, 0.1, 0.05)
    (0.12, 0.1)
    """
    return positive + alpha * (negative - positive) if negative > positive else negative


class BalancEdit(LayerEditor):
    """Keeps a tuned copy of one layer for each edit, and uses it for questions that are near enough.

    The key is the layer's input, mean-pooled over the question's tokens, image included; distances are cosine
    distances. An edit reaches a little beyond its positive sample (the question in other words about an augmented
    copy of the image), ``alpha`` of the way to its negative one (the same question about a blank image). The paper
    takes these samples from its data set; ours are made from the edit.

    Args:
        layer: A linear layer of the language model, or the number of a block, whose last linear layer is meant.
        alpha: As above.
        steps: The most steps of Adam for one copy.
        lr: Its learning rate.
        seed: Seed of the positive samples.
    """

    title = "BalancEdit"

    def __init__(
        self, layer: str | int = -6, alpha: float = 0.05, steps: int = 50, lr: float = 1e-3, seed: int = 0
    ) -> None:
        super().__init__(layer)
        self.alpha, self.steps, self.lr, self.seed = alpha, steps, lr, seed
        self._keys = torch.empty(0, 0)  # of unit length
        self._radii: list[float] = []
        self._copies: list[Tensor] = []
        self._chosen: list[int | None] = []  # for each row of a batch, the edit that reaches it
        self._tuned: nn.Parameter | None = None  # while it is tuned

    @property
    def keys(self) -> int:
        """One for each edit."""
        return len(self._copies)

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Tune a copy and measure how far it reaches; see :meth:`Editor.write`."""
        assert self.vlm is not None  # set-up ran
        vlm, (layer,) = self.vlm, self.layers
        rng = random.Random(f"{self.seed}-{edit.id}")
        positive = augment(edit.image, rng)
        blank = Image.new("RGB", edit.image.size, "white")
        questions = [edit.question, paraphrase(edit.question, rng), edit.question]
        with enable_gradients():
            prompts = [vlm.prompt(q, edit.choices) for q in questions]
            vision = clone_vision(vlm.see([edit.image, positive, blank]))
            with self._without_copies():
                ends = not edit.choices
                example = TrainingExample(vlm, vision.select([0]), prompts[:1], [edit.answer], self.layers, ends=ends)
                keys = [_pool(example.layer_inputs[layer], example.prompt_mask)]
                for i in (1, 2):
                    sample = TrainingExample(vlm, vision.select([i]), prompts[i : i + 1], [edit.answer], self.layers)
                    keys.append(_pool(sample.layer_inputs[layer], sample.prompt_mask))
            key, near, far = (k[0] for k in keys)
            weight = self.linear(layer).weight.detach().float()
            copy = tune_weight(example, weight, self._use, steps=self.steps, lr=self.lr)
            self._copies.append(copy.to(self.linear(layer).weight.dtype))
            self._keys = torch.cat([self._keys, key[None]]) if self._radii else key[None]
            self._radii.append(radius(1 - float(key @ near), 1 - float(key @ far), self.alpha))

    @contextmanager
    def _without_copies(self) -> Iterator[None]:
        """Let the model run as it is without any edit."""
        copies, self._copies = self._copies, []
        try:
            yield
        finally:
            self._copies = copies

    def _use(self, parameter: nn.Parameter | None) -> None:
        self._tuned = parameter

    def replace_output(self, name: str, inputs: Tensor, output: Tensor) -> Tensor | None:
        """What the nearest edit's copy makes, in the rows that it reaches; see :meth:`LayerEditor.replace_output`."""
        bias = self.linear(name).bias
        if self._tuned is not None:
            return nn.functional.linear(inputs, self._tuned.to(inputs.dtype), bias)
        if not self._copies:
            return None
        mask = self.prompt_mask(inputs)
        if mask is not None:  # else it goes on with what was chosen for the prompts
            distances, edits = (1 - _pool(inputs, mask) @ self._keys.T).min(dim=1)
            nearest = zip(distances.tolist(), edits.tolist(), strict=True)
            self._chosen = [edit if distance <= self._radii[edit] else None for distance, edit in nearest]
        if all(edit is None for edit in self._chosen):
            return None
        replaced = output.clone()
        for row, edit in enumerate(self._chosen):
            if edit is not None:
                replaced[row] = nn.functional.linear(inputs[row], self._copies[edit].to(inputs), bias)
        return replaced


def _pool(inputs: Tensor, prompt_mask: Tensor) -> Tensor:
    """Mean over the prompts' tokens, of unit length: (rows, width) float32 on the CPU.

    Args:
        inputs: What enters a layer, (rows, columns, width).
        prompt_mask: Where the prompts' tokens are, bool (rows, columns).
    """
    mask = prompt_mask.to(inputs.device)[..., None]
    states = inputs[:, : prompt_mask.shape[1]].float() * mask
    return nn.functional.normalize(states.sum(1) / mask.sum(1), dim=1).detach().cpu()
