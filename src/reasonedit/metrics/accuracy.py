"""One accuracy per group of probes (section 6 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from .functional import matches


class EditAccuracy(Metric):
    """Share of answers that are right, of the samples that belong to one group of probes.

    A batch may mix groups: each metric takes its own samples and leaves the others. States are sums, so that ranks with
    different numbers of samples, or none, sync.

    Raises:
        ValueError: On ``update``, when the lengths differ; on ``compute``, when there was no sample at all.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    group: ClassVar[str] = ""
    """Name of the group of probes (``"rel"``, ``"t_gen"``, …)."""
    right: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, answers: Sequence[str], targets: Sequence[str], groups: Sequence[str]) -> None:
        """Count.

        Args:
            answers: What the model said, one per sample.
            targets: What is right.
            groups: The group each sample belongs to.
        """
        if not len(answers) == len(targets) == len(groups):
            raise ValueError(
                f"{len(answers)} answers, {len(targets)} targets and {len(groups)} groups: not as many of each"
            )
        mine = [matches(a, t) for a, t, g in zip(answers, targets, groups, strict=True) if g == self.group]
        self.right += sum(mine)
        self.total += len(mine)

    def compute(self) -> Tensor:
        """The share, a scalar in 0..1."""
        if self.total == 0:
            raise ValueError(f"{type(self).__name__} has no samples: nothing of the group '{self.group}' was asked.")
        return self.right.float() / self.total


class Reliability(EditAccuracy):
    """Rel: the edits themselves.

    >>> metric = Reliability()
    >>> metric.update(["kettle", "cup"], ["kettle", "key"], ["rel", "rel"])
    >>> metric.compute()
    tensor(0.5000)
    """

    group = "rel"


class TextGenerality(EditAccuracy):
    """T-Gen: paraphrased questions about the same images."""

    group = "t_gen"


class ImageGenerality(EditAccuracy):
    """I-Gen: the same questions about regenerated images."""

    group = "i_gen"


class RationaleGenerality(EditAccuracy):
    """R-Gen: new images and questions that need the same reasoning."""

    group = "r_gen"


class CoEGenerality(EditAccuracy):
    """CoE-Gen: the error-inducing facts in new visual contexts, the same question."""

    group = "coe_gen"


class Locality(EditAccuracy):
    """Loc: unrelated samples that the unedited model got right."""

    group = "loc"


class HardLocality(EditAccuracy):
    """Hard Loc: the most similar questions whose answers must not change."""

    group = "hard_loc"


METRICS: tuple[type[EditAccuracy], ...] = (
    Reliability,
    TextGenerality,
    ImageGenerality,
    RationaleGenerality,
    CoEGenerality,
    Locality,
    HardLocality,
)


def editing_metrics() -> MetricCollection:
    """All metrics, by the name of their group."""
    return MetricCollection({metric.group: metric() for metric in METRICS}, compute_groups=False)
