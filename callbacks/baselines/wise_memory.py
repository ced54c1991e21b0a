"""The side memories of WISE: shards of a weight, how they are merged, and which one a question goes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

DENSITY = 0.53
"""Share of a shard's changes that Ties keeps, the largest: as the authors publish it."""
SLACK = 0.88
"""Share of the weakest edit's activation from which a question counts as routed: as the authors publish it."""


@dataclass(frozen=True)
class SideMemory:
    """A copy of a weight with what was learnt in it.

    Attributes:
        weight: The copy, float32 (width_out, width_in).
        activations: What entered the layer at the last token of each edit that is in it, float32 (edits, width_in).
    """

    weight: Tensor
    activations: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> SideMemory:
        """One without edits."""
        return cls(weight, weight.new_empty(0, weight.shape[1]))

    def to(self, device: torch.device) -> SideMemory:
        """The same on a device."""
        return SideMemory(self.weight.to(device), self.activations.to(device))

    def learnt(self, weight: Tensor, activation: Tensor) -> SideMemory:
        """With one edit more.

        Args:
            weight: The weight after it.
            activation: What entered the layer at its last token (width_in,).
        """
        return replace(self, weight=weight, activations=torch.cat([self.activations, activation.float()[None]]))

    def threshold(self, main: Tensor) -> float:
        """The weakest of its edits' own activation differences, less some slack (epsilon of the paper).

        Args:
            main: The model's own weight, float32.
        """
        return SLACK * float(activation_difference(self.activations, self.weight, main).min())


def activation_difference(activations: Tensor, side: Tensor, main: Tensor) -> Tensor:
    """By how much a side memory changes what leaves the layer, as a share of that: (N,).

    The paper takes the length of ``A(x) (W' - W)`` itself, and tunes margins for each model; the share means the same
    for all of them.

    Args:
        activations: What enters the layer, A(x): (N, width_in).
        side: W', float32 (width_out, width_in).
        main: W, the same.
    """
    inputs = activations.float()
    change, own = inputs @ (side - main).T, inputs @ main.T
    return torch.as_tensor(change.norm(dim=1) / own.norm(dim=1).clamp(min=1e-8))


def margin_loss(edited: Tensor, unrelated: Tensor, margin: float) -> Tensor:
    """What keeps edits and unrelated questions apart (the routing loss of the paper, its margins in shares).

    Args:
        edited: Activation difference of the edit, a scalar.
        unrelated: Those of unrelated questions (N,).
        margin: beta, which the edit is to exceed; alpha, below which the others are to stay, is a quarter of it, and
            gamma, by which they are to differ, half of it, as in the paper.
    """
    alpha, beta, gamma = margin / 4, margin, margin / 2
    apart = (gamma - (edited - unrelated)).relu() + (unrelated - alpha).relu()
    return (beta - edited).relu() + (apart.mean() if len(unrelated) else apart.sum())


def random_mask(weight: Tensor, ratio: float, seed: int) -> Tensor:
    """The random part of a weight that a shard may change: 1 for a share of its numbers, else 0."""
    generator = torch.Generator().manual_seed(seed)  # on the CPU: the same whatever the device
    return (torch.rand(weight.shape, generator=generator) < ratio).to(weight)


def merge_by_ties(changes: Sequence[Tensor], density: float = DENSITY) -> Tensor:
    """Merge changes of one weight (Ties: Yadav et al., arXiv 2306.01708).

    Of each the largest are kept; for each number the sign is elected that has the greater sum, and the mean is taken of
    those that have it.

    >>> merge_by_ties([torch.tensor([[3.0, -1.0]]), torch.tensor([[1.0, 2.0]])], 1.0)
    tensor([[2., 2.]])
    """
    trimmed = []
    for change in changes:
        kept = max(1, round(density * change.numel()))
        least = change.abs().flatten().kthvalue(change.numel() - kept + 1).values
        trimmed.append(change.where(change.abs() >= least, torch.zeros_like(change)))
    stacked = torch.stack(trimmed)
    agrees = (stacked.sign() == stacked.sum(0).sign()) & (stacked != 0)
    return torch.as_tensor((stacked * agrees).sum(0) / agrees.sum(0).clamp(min=1))
