"""The share of each verdict among checks of edits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from reasonedit.checking import Verdict

from .apart import keep_apart


class VerdictShare(Metric):
    """The share of checks that end in a verdict; see :mod:`reasonedit.checking`.

    States are sums, so ranks with different numbers of checks, or none, can be synced. Without a check it is NaN.

    Args:
        verdict: The verdict, or its name for people.
        **kwargs: Those of ``torchmetrics.Metric``.

    Attributes:
        count: How many checks end in it.
        total: Number of checks.

    Raises:
        ValueError: There is no such verdict.

    >>> metric = VerdictShare(Verdict.HOLDS)
    >>> metric.update([Verdict.HOLDS, Verdict.NOT_FETCHED])
    >>> metric.compute()
    tensor(0.5000)
    """

    is_differentiable = False
    full_state_update = False

    count: Tensor
    total: Tensor

    def __init__(self, verdict: Verdict, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if verdict not in [*Verdict]:
            raise ValueError(f"There is no verdict '{verdict}': it is one of {', '.join(map(str, Verdict))}.")
        self.verdict = verdict
        for name in ("count", "total"):
            self.add_state(name, torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
        keep_apart(self, f"{verdict}")

    def update(self, verdicts: Sequence[Verdict]) -> None:
        """Count the verdicts of checks."""
        self.count += sum(verdict == self.verdict for verdict in verdicts)
        self.total += len(verdicts)

    def compute(self) -> Tensor:
        """The share, a scalar in 0..1; NaN where there is no check."""
        return (self.count / self.total).float()


def verdict_shares() -> MetricCollection:
    """The share of each verdict, by its name in logs."""
    return MetricCollection({verdict.key: VerdictShare(verdict) for verdict in Verdict}, compute_groups=False)
