"""Trains what SERAC needs on edits of a training split: the scope classifier, then the counterfactual model."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.data.source import EditSource, Probe
from reasonedit.errors import InputError
from reasonedit.groups import GENERALITIES, LOCALITIES
from reasonedit.prompts import with_facts
from reasonedit.types import Edit
from reasonedit.vlm.devices import run_in_parts

from .ike import demonstration
from .joint_embedding import JointEmbedder
from .serac import SERAC
from .training_example import TrainingExample, enable_gradients

SCOPES: dict[str, tuple[str, ...]] = {"near": ("rel", "t_gen", "i_gen"), "all": ("rel", *GENERALITIES)}
"""The probes that are in an edit's scope: the question itself, in other words and about the picture made again, as the
rephrasings of the paper; or all that its reasoning bears on. The localities are out of it."""
CLASSIFIER_STEPS, _BATCH = 1500, 32
_AT_ONCE = 32  # images that pass the vision part at once


@dataclass
class Step:
    """One step of the training.

    Attributes:
        part: What is trained: ``"scope"`` or ``"counterfactual"``.
        number: Its number.
        loss: Binary cross-entropy of the scope, or loss per token of the right answers (nats).
    """

    part: str
    number: int
    loss: float


class Pairs:
    """Edits with their probes: those in scope, and those out of it.

    Args:
        source: The training split.
        scope: One of :data:`SCOPES`.

    Raises:
        InputError: There is no such scope, or the split has no probes of the one sort or the other.
    """

    def __init__(self, source: EditSource, scope: str) -> None:
        if scope not in SCOPES:
            raise InputError(f"scope must be one of {', '.join(SCOPES)}, not '{scope}'.")
        self.edits = list(islice(source.candidates(), source.edits))
        numbers = {edit.id: i for i, edit in enumerate(self.edits)}
        self.probes = [p for p in source.probes(self.edits, list(numbers)) if p.edit_id in numbers]
        self.inside: dict[int, list[int]] = {}
        self.outside: dict[int, list[int]] = {}
        for i, probe in enumerate(self.probes):
            if probe.group in SCOPES[scope]:
                self.inside.setdefault(numbers[probe.edit_id], []).append(i)
            elif probe.group in LOCALITIES:
                self.outside.setdefault(numbers[probe.edit_id], []).append(i)
        if len(self.inside) < 2 or not self.outside:
            raise InputError(
                "SERAC is trained on probes in and out of the scopes of two edits or more: take more edits."
            )

    def embed(self, embedder: JointEmbedder) -> tuple[Tensor, Tensor]:
        """Embeddings of all edits and of all probes: (edits, width) and (probes, width)."""
        asked = [(edit.image, edit.question) for edit in self.edits]
        asked += [(probe.query.image, probe.query.question) for probe in self.probes]
        rows: list[Tensor] = []

        def embed_part(part: list[int]) -> None:
            images: list[Image.Image] = [asked[i][0] for i in part]
            rows.append(embedder.embed(embedder.see(images), images, [asked[i][1] for i in part]))

        run_in_parts(range(len(asked)), _AT_ONCE, embed_part)
        both = torch.cat(rows)
        return both[: len(self.edits)], both[len(self.edits) :]


def train(serac: SERAC, source: EditSource, *, steps: int, seed: int = 0, scope: str = "near") -> Iterator[Step]:
    """Train both, one after the other; the VLM stays as it is.

    Args:
        serac: The editor whose networks are trained.
        source: The training split: its samples need not be answered wrongly.
        steps: Steps of the counterfactual model, of one question each.
        seed: Seed of the order.
        scope: What is in scope, see :data:`SCOPES`.

    Yields:
        What each step measured.
    """
    pairs = Pairs(source, scope)
    yield from _train_scope(serac, pairs, random.Random(f"scope-{seed}"))
    yield from _train_counterfactual(serac, pairs, steps, random.Random(f"counterfactual-{seed}"))


def _train_scope(serac: SERAC, pairs: Pairs, rng: random.Random, lr: float = 1e-3) -> Iterator[Step]:
    """Binary cross-entropy: a probe in an edit's scope against one out of it, and against one of another edit's."""
    network = serac.network
    assert network is not None
    with enable_gradients():
        edits, probes = (x.clone() for x in pairs.embed(serac.embedder))
        adam = torch.optim.Adam(network.scope.parameters(), lr=lr, weight_decay=1e-4)
        for number in range(CLASSIFIER_STEPS):
            chosen = rng.choices(list(pairs.inside), k=_BATCH)
            others = [rng.choice([e for e in pairs.inside if e != edit]) for edit in chosen]
            far = [pairs.outside.get(edit) or pairs.inside[other] for edit, other in zip(chosen, others, strict=True)]
            asked = [[rng.choice(pairs.inside[edit]) for edit in chosen]]
            asked += [[rng.choice(of_edit) for of_edit in far], [rng.choice(pairs.inside[other]) for other in others]]
            logits = torch.stack([network.logits(probes[rows], edits[chosen]) for rows in asked])
            target = torch.zeros_like(logits)
            target[0] = 1
            weight = torch.tensor([[1.0], [0.5], [0.5]], device=logits.device).expand_as(logits)
            loss = nn.functional.binary_cross_entropy_with_logits(logits, target, weight)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            yield Step("scope", number, float(loss.detach()))


def _train_counterfactual(
    serac: SERAC, pairs: Pairs, steps: int, rng: random.Random, lr: float = 3e-4
) -> Iterator[Step]:
    """The likelihood of the right answers to questions in scope, told the edit."""
    network, vlm = serac.network, serac.vlm
    assert network is not None
    assert vlm is not None
    vlm.shares_prefix = False
    serac.trains = True
    serac.install()
    try:
        with enable_gradients():
            adam = torch.optim.Adam(network.counterfactual.parameters(), lr=lr)
            for number in range(steps):
                edit = rng.choice(list(pairs.inside))
                probe = pairs.probes[rng.choice(pairs.inside[edit])]
                loss = _example(serac, pairs.edits[edit], probe).losses().mean()
                adam.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                nn.utils.clip_grad_norm_(network.counterfactual.parameters(), 1.0)
                adam.step()
                yield Step("counterfactual", number, float(loss.detach()))
    finally:
        serac.remove()
        serac.trains = False
        del vlm.shares_prefix


def _example(serac: SERAC, edit: Edit, probe: Probe) -> TrainingExample:
    """A question in the scope of an edit, which it is told, with its answer."""
    vlm, query = serac.vlm, probe.query
    assert vlm is not None
    told = vlm.clean(demonstration(edit, reasoning=serac.reasoning, wording=serac.wording))
    prompt = vlm.prompt(with_facts([told], query.question), query.choices)
    vision, ends = vlm.see([query.image]), not query.choices
    return TrainingExample(vlm, vision, [prompt], [probe.answer], serac.layers, ends=ends)
