"""The share of the right answer's tokens under teacher forcing, as older tables have it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from reasonedit.groups import ProbeGroup

from .apart import keep_apart


class TokenAccuracy(Metric):
    """The mean, over the samples of one group, of the share of the right answer's tokens that the model would say.

    Each token is told the right ones before it (see :func:`reasonedit.vlm.forced.forced_shares`): so a model that says
    nothing of the kind by itself may have most of them. It stands beside the accuracy of generated answers, never in
    its place. Without samples the result is NaN.

    >>> metric = TokenAccuracy("rel")
    >>> metric.update([0.5, 1.0, 0.0], ["rel", "rel", "loc"])
    >>> metric.compute()
    tensor(0.7500)

    Args:
        group: Name of a :class:`~reasonedit.groups.ProbeGroup`.
        **kwargs: Those of ``torchmetrics.Metric``.

    Attributes:
        shares: Sum of the shares.
        total: Number of samples.

    Raises:
        ValueError: On ``update``, when the lengths differ.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    shares: Tensor
    total: Tensor

    def __init__(self, group: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group
        self.add_state("shares", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
        keep_apart(self, group)

    def update(self, shares: Sequence[float], groups: Sequence[str]) -> None:
        """Count shares.

        Args:
            shares: The share of each sample, in 0..1.
            groups: The group each sample belongs to.
        """
        if len(shares) != len(groups):
            raise ValueError(f"{len(shares)} shares and {len(groups)} groups: not as many of each")
        own = [share for share, group in zip(shares, groups, strict=True) if group == self.group]
        self.shares += sum(own)
        self.total += len(own)

    def compute(self) -> Tensor:
        """The mean share, a scalar in 0..1; NaN where there is no sample."""
        return (self.shares / self.total).float()


def token_metrics() -> MetricCollection:
    """One for each group, by its name."""
    return MetricCollection({group.value: TokenAccuracy(group.value) for group in ProbeGroup}, compute_groups=False)
