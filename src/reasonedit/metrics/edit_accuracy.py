"""One accuracy per group of probes (section 6 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from reasonedit.groups import LABELS, ProbeGroup
from reasonedit.matching import accuracy, contains, exact_match

from .apart import keep_apart


class EditAccuracy(Metric):
    """The mean accuracy of the answers to one group of probes.

    A batch may mix groups: each metric takes the samples of its own group. States are sums, so ranks with different
    numbers of samples, or none, can be synced.

    Without samples the result is NaN, here and in :func:`editing_metrics`. So all ranks and batches have the same keys,
    as ``log_dict`` needs them, and a mean over batches of which one has no sample is NaN, and not too low by a 0.

    Args:
        group: Name of a :class:`~reasonedit.groups.ProbeGroup`; that of the class when not given.
        **kwargs: Those of ``torchmetrics.Metric``.

    Attributes:
        right: Sum of the answers' :func:`~reasonedit.metrics.accuracy`.
        exact: How many answers are an :func:`~reasonedit.metrics.exact_match`.
        contained: How many answers that are not right contain a right one (:func:`~reasonedit.metrics.contains`).
        total: Number of samples.

    Raises:
        ValueError: Neither names a group; or on ``update``, when the lengths differ.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    group: str = ""
    right: Tensor
    exact: Tensor
    contained: Tensor
    total: Tensor

    def __init__(self, group: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = type(self).group if group is None else group
        if not self.group:  # it would count the samples that are of none
            raise ValueError(f"{type(self).__name__} has no group of its own: name one, such as 'rel'.")
        self.add_state("right", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        for name in ("exact", "contained", "total"):
            self.add_state(name, torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
        keep_apart(self, self.group)

    def update(self, answers: Sequence[str], targets: Sequence[str | Sequence[str]], groups: Sequence[str]) -> None:
        """Count answers.

        Args:
            answers: The model's answers, one per sample.
            targets: The right answer of each sample: a text, or a list of right answers.
            groups: The group each sample belongs to.
        """
        if not len(answers) == len(targets) == len(groups):
            raise ValueError(
                f"{len(answers)} answers, {len(targets)} targets and {len(groups)} groups: not as many of each"
            )
        own = [(a, t) for a, t, g in zip(answers, targets, groups, strict=True) if g == self.group]
        accuracies = [accuracy(a, t) for a, t in own]
        self.right += sum(accuracies)
        self.exact += sum(exact_match(a, t) for a, t in own)
        self.contained += sum(value < 1 and contains(a, t) for value, (a, t) in zip(accuracies, own, strict=True))
        self.total += len(own)

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

    group = ProbeGroup.RELIABILITY


class TextGenerality(EditAccuracy):
    """T-Gen: paraphrased questions about the same images."""

    group = ProbeGroup.TEXT_GENERALITY


class ImageGenerality(EditAccuracy):
    """I-Gen: the same questions about regenerated images."""

    group = ProbeGroup.IMAGE_GENERALITY


class RationaleGenerality(EditAccuracy):
    """R-Gen: new images and questions that need the same reasoning."""

    group = ProbeGroup.RATIONALE_GENERALITY


class CoEGenerality(EditAccuracy):
    """CoE-Gen: the error-inducing facts in new visual contexts, the same question."""

    group = ProbeGroup.COE_GENERALITY


class Locality(EditAccuracy):
    """Loc: unrelated samples that the unedited model got right."""

    group = ProbeGroup.LOCALITY


class HardLocality(EditAccuracy):
    """Hard Loc: the most similar questions whose answers must not change."""

    group = ProbeGroup.HARD_LOCALITY


class WordLocality(EditAccuracy):
    """Word Loc: the questions that share the most words with an edit's, where the unedited model got them right."""

    group = ProbeGroup.WORD_LOCALITY


class Portability(EditAccuracy):
    """Port: questions whose answer follows from the edit in some steps of knowledge (VLKEB, arXiv 2403.07350).

    >>> metric = Portability(hops=2)
    >>> metric.update(["Kyoto", "Nara"], ["Kyoto", "Kyoto"], ["port_2", "port_1"])
    >>> metric.compute()
    tensor(1.)

    Args:
        group: Name of the group; that of ``hops`` when not given.
        hops: The number of steps, 1 to 4.
        **kwargs: Those of ``torchmetrics.Metric``.

    Raises:
        ValueError: There is no group of so many steps.
    """

    group = ProbeGroup.PORTABILITY_1

    def __init__(self, group: str | None = None, hops: int = 1, **kwargs: Any) -> None:
        if f"port_{hops}" not in LABELS:
            raise ValueError(f"There is no group 'port_{hops}' of portability: there are 1 to 4 steps.")
        super().__init__(f"port_{hops}" if group is None else group, **kwargs)


class CompositionalGenerality(EditAccuracy):
    """Comp-Gen: questions that take what was corrected of a picture and of a text (CCKEB, arXiv 2510.25798)."""

    group = ProbeGroup.COMPOSITION


class TextLocality(EditAccuracy):
    """Text Loc: questions without a picture that the unedited model got right: nothing of the edits may leak in."""

    group = ProbeGroup.TEXT_LOCALITY


METRICS: tuple[type[EditAccuracy], ...] = (
    Reliability,
    TextGenerality,
    ImageGenerality,
    RationaleGenerality,
    CoEGenerality,
    Locality,
    HardLocality,
    WordLocality,
    Portability,
    CompositionalGenerality,
    TextLocality,
)


def editing_metrics() -> MetricCollection:
    """All metrics, by the name of their group; a group without samples is NaN, see :class:`EditAccuracy`."""
    named = {str(metric.group): metric for metric in METRICS} | {
        group.value: Portability for group in ProbeGroup if group.hops
    }
    return MetricCollection(
        {group.value: named.get(group.value, EditAccuracy)(group.value) for group in ProbeGroup}, compute_groups=False
    )
