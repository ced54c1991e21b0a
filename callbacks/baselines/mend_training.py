"""Trains the network of MEND on edits of a training split."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import nn

from reasonedit.data.source import EditSource, Probe
from reasonedit.groups import ProbeGroup
from reasonedit.types import Edit

from .mend import MEND, GradientNetwork, tokens_that_matter
from .training_example import TrainingExample, enable_gradients

EDIT_WEIGHT = 0.1
"""How much the edit weighs beside what must not drift: c_edit of the paper."""
_UNRELATED = (ProbeGroup.LOCALITY, ProbeGroup.HARD_LOCALITY)  # what shares words may turn on the very fact
_NORMALISED_BY = 64  # edits by whose gradients the network's inputs are normalised


@dataclass
class Step:
    """One step of the training.

    Attributes:
        number: Its number.
        edit_loss: Loss per token of the edit and of its neighbour after the edit.
        drift: Divergence of an unrelated answer, in nats per token.
    """

    number: int
    edit_loss: float
    drift: float


def train(
    mend: MEND,
    source: EditSource,
    *,
    steps: int,
    seed: int = 0,
    lr: float = 1e-3,
    edit_weight: float = EDIT_WEIGHT,
) -> Iterator[Step]:
    """Train a network step by step.

    Each step makes an edit of the training split and asks that its answer and that of a neighbour (the question in
    other words, or about the image painted again) become likely, and that an unrelated question is answered as before.

    Args:
        mend: The editor whose network is trained; the VLM stays as it is.
        source: The training split: its samples need not be answered wrongly.
        steps: Number of steps.
        seed: Seed of the order.
        lr: Learning rate of Adam.
        edit_weight: How much the edit weighs beside what must not drift.

    Yields:
        What each step measured.
    """
    rng = random.Random(seed)
    torch.manual_seed(seed)
    edits = list(islice(source.candidates(), source.edits))
    probes: dict[str, dict[str, list[Probe]]] = {}
    for probe in source.probes(edits, [e.id for e in edits]):
        kind = "near" if probe.group in ("t_gen", "i_gen") else probe.group
        probes.setdefault(probe.edit_id, {}).setdefault(kind, []).append(probe)
    far = [p for of_edit in probes.values() for kind in _UNRELATED for p in of_edit.get(kind, [])]
    network, vlm = mend.network, mend.vlm
    assert network is not None
    assert vlm is not None
    vlm.shares_prefix = False
    mend.install()
    try:
        with enable_gradients():
            _normalise(mend, network, edits[:_NORMALISED_BY])
            adam = torch.optim.Adam(network.parameters(), lr=lr)
            order: list[Edit] = []
            for number in range(steps):
                order = order or rng.sample(edits, len(edits))
                edit = order.pop()
                near = rng.choice(probes.get(edit.id, {}).get("near") or [None])
                unrelated = rng.choice(far) if far else None
                edit_loss, drift = _step(mend, edit, near, unrelated, edit_weight)
                nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                adam.step()
                adam.zero_grad()
                yield Step(number, edit_loss, drift)
    finally:
        mend.remove()
        del vlm.shares_prefix


def _example(mend: MEND, item: Edit | Probe) -> TrainingExample:
    assert mend.vlm is not None
    query = item if isinstance(item, Edit) else item.query
    prompt = mend.vlm.prompt(query.question, query.choices)
    return mend.example(mend.vlm.see([query.image]), prompt, item.answer, ends=not query.choices)


def _step(
    mend: MEND, edit: Edit, near: Probe | None, unrelated: Probe | None, edit_weight: float
) -> tuple[float, float]:
    """Leave the gradients of one step in the network; the loss of the edit and the drift."""
    example = _example(mend, edit)
    learnt = [example, *([_example(mend, near)] if near is not None else [])]
    changes = mend.changes(example)
    far = _example(mend, unrelated) if unrelated is not None else None
    before = far.logits().log_softmax(-1).detach() if far is not None else None
    with mend.try_changes(changes):
        edit_loss = torch.cat([each.losses() for each in learnt]).mean()
        drift = torch.zeros(())
        if far is not None and before is not None:
            after = far.logits().log_softmax(-1)
            drift = nn.functional.kl_div(after, before, log_target=True, reduction="batchmean")
        (edit_weight * edit_loss + drift).backward()  # type: ignore[no-untyped-call]
    return float(edit_loss.detach()), float(drift.detach())


def _normalise(mend: MEND, network: GradientNetwork, edits: Sequence[Edit]) -> None:
    """Take mean and deviation of what the network is given, layer by layer."""
    rows: dict[str, list[torch.Tensor]] = {}
    for edit in edits:
        for name, (inputs, gradients) in mend.gradients(_example(mend, edit)).items():
            both = torch.cat([inputs, gradients], dim=1).float()
            rows.setdefault(name, []).append(both[tokens_that_matter(gradients)])
    for i, name in enumerate(mend.layers):
        of_layer = torch.cat(rows[name])
        network.mean[i] = of_layer.mean(0)
        network.deviation[i] = of_layer.std(0).clamp(min=1e-8)
