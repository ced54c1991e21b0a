"""One accuracy per group of probes (section 6 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from .functional import accuracy, contains, exact_match


class EditAccuracy(Metric):
    """How right the answers are, on average, of the samples that belong to one group of probes.

    A batch may mix groups: each metric takes its own samples and leaves the others. States are sums, so that ranks with
    different numbers of samples, or none, sync.

    Without a sample the result is NaN, alone as in :func:`editing_metrics`, where not every group need have samples in
    every batch or run: the keys are the same on all ranks and in all batches, as ``log_dict`` needs them, and whoever
    averages over batches is told by a NaN, not misled by a 0.

    Attributes:
        right: Sum of the answers' :func:`~reasonedit.metrics.accuracy`.
        exact: How many answers are an :func:`~reasonedit.metrics.exact_match`.
        contained: How many answers that are not right contain a right one (:func:`~reasonedit.metrics.contains`).
        total: Number of samples.

    Raises:
        ValueError: On ``update``, when the lengths differ.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    group: ClassVar[str] = ""
    """Name of the group of probes (``"rel"``, ``"t_gen"``, …)."""
    right: Tensor
    exact: Tensor
    contained: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("right", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("exact", "contained", "total"):
            self.add_state(name, torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, answers: Sequence[str], targets: Sequence[str | Sequence[str]], groups: Sequence[str]) -> None:
        """Count.

        Args:
            answers: What the model said, one per sample.
            targets: What is right, one per sample: a text, or a list of right answers.
            groups: The group each sample belongs to.
        """
        if not len(answers) == len(targets) == len(groups):
            raise ValueError(
                f"{len(answers)} answers, {len(targets)} targets and {len(groups)} groups: not as many of each"
            )
        mine = [(a, t) for a, t, g in zip(answers, targets, groups, strict=True) if g == self.group]
        shares = [accuracy(a, t) for a, t in mine]
        self.right += sum(shares)
        self.exact += sum(exact_match(a, t) for a, t in mine)
        self.contained += sum(share < 1 and contains(a, t) for share, (a, t) in zip(shares, mine, strict=True))
        self.total += len(mine)

    def compute(self) -> Tensor:
        """The mean accuracy, a scalar in 0..1; NaN where there is no sample."""
        return (self.right / self.total).float()

    def exact_match(self) -> Tensor:
        """The share of exact matches, a scalar in 0..1; NaN where there is no sample. All ranks must ask for it."""
        if self._is_synced:
            return self.exact / self.total
        with self.sync_context(dist_sync_fn=self.dist_sync_fn):
            return self.exact / self.total


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
    """All metrics, by the name of their group; a group without samples is NaN, see :class:`EditAccuracy`."""
    return MetricCollection({metric.group: metric() for metric in METRICS}, compute_groups=False)
