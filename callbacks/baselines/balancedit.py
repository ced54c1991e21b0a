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

from .finetune import tuned
from .layer import LayerEditor
from .lesson import Lesson, learning, ordinary


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
    copy of the image), ``alpha`` of the way to its negative one (the same question about a blank image); the paper
    leaves the exact samples to its data set, these are ours.

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
        self._chosen: list[int | None] = []
        self._learning: nn.Parameter | None = None

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
        with learning():
            prompts = [vlm.prompt(q, edit.choices) for q in questions]
            vision = ordinary(vlm.see([edit.image, positive, blank]))
            with self._untouched():
                ending = not edit.choices
                lesson = Lesson(vlm, vision.select([0]), prompts[:1], [edit.answer], self.layers, ending=ending)
                pooled = [_pooled(lesson.entering[layer], lesson.prompted)]
                for i in (1, 2):
                    sample = Lesson(vlm, vision.select([i]), prompts[i : i + 1], [edit.answer], self.layers)
                    pooled.append(_pooled(sample.entering[layer], sample.prompted))
            key, near, far = (p[0] for p in pooled)
            weight = self.linear(layer).weight.detach().float()
            copy = tuned(lesson, weight, self._learn, steps=self.steps, lr=self.lr)
            self._copies.append(copy.to(self.linear(layer).weight.dtype))
            self._keys = torch.cat([self._keys, key[None]]) if self._radii else key[None]
            self._radii.append(radius(1 - float(key @ near), 1 - float(key @ far), self.alpha))

    @contextmanager
    def _untouched(self) -> Iterator[None]:
        """While it lasts the copies are out of the way."""
        copies, self._copies = self._copies, []
        try:
            yield
        finally:
            self._copies = copies

    def _learn(self, parameter: nn.Parameter | None) -> None:
        self._learning = parameter

    def passing(self, name: str, entering: Tensor, leaving: Tensor) -> Tensor | None:
        """What the nearest edit's copy makes, in the rows that it reaches; see :meth:`LayerEditor.passing`."""
        bias = self.linear(name).bias
        if self._learning is not None:
            return nn.functional.linear(entering, self._learning.to(entering.dtype), bias)
        if not self._copies:
            return None
        prompted = self.prompted(entering)
        if prompted is not None:  # else it goes on with what was chosen for the prompts
            near, rows = (1 - _pooled(entering, prompted) @ self._keys.T).min(dim=1)
            found = zip(near.tolist(), rows.tolist(), strict=True)
            self._chosen = [row if distance <= self._radii[row] else None for distance, row in found]
        if all(row is None for row in self._chosen):
            return None
        replaced = leaving.clone()
        for i, row in enumerate(self._chosen):
            if row is not None:
                replaced[i] = nn.functional.linear(entering[i], self._copies[row].to(entering), bias)
        return replaced


def _pooled(entering: Tensor, prompted: Tensor) -> Tensor:
    """Mean over the prompts' tokens, of unit length: (rows, D) float32 on the CPU."""
    mask = prompted.to(entering.device)[..., None]
    states = entering[:, : prompted.shape[1]].float() * mask
    return nn.functional.normalize(states.sum(1) / mask.sum(1), dim=1).detach().cpu()
