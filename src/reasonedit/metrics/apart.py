"""Keeps metrics of one class, each for samples of its own, apart in a collection."""

from __future__ import annotations

import torch
from torchmetrics import Metric


def keep_apart(metric: Metric, counted: str) -> None:
    """Have no ``MetricCollection`` take a metric for another one that counts other samples of the same batches.

    After the first batch a collection updates one alone of those metrics whose states have the same names and values,
    and gives its result for all of them: two groups without a sample so far would be one for ever.

    Args:
        metric: The metric.
        counted: What it counts; it names a state that is nothing else.
    """
    metric.add_state(f"counts_{counted}", torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
