"""Reasoning that is not as it should be: sentences that are irrelevant, wrong or missing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice

from reasonedit.data.source import EditSource, Probe
from reasonedit.errors import ReasonEditError
from reasonedit.metrics import matches
from reasonedit.types import Edit

KINDS = ("replaced", "mixed", "wrong", "missing")
_LENDERS = 50  # samples whose sentences and answers are put in the place of others'


class NoisyReasoning:
    """A source of edits whose reasoning is spoilt; its questions, answers and probes stay.

    Args:
        source: The source.
        kind: ``"replaced"``: sentences give way to sentences of other samples; ``"mixed"``: such are added;
            ``"wrong"``: one sentence says something false (the answer in it gives way to another sample's; where none
            names the answer, the last sentence gives way to another sample's); ``"missing"``: one sentence is left out.
        share: For the first two the share of the sentences, for the others that of the edits.
        seed: Seed of what is spoilt.

    Raises:
        ReasonEditError: ``kind`` or ``share`` is out of range.
    """

    def __init__(self, source: EditSource, kind: str, share: float, seed: int = 0) -> None:
        if kind not in KINDS:
            raise ReasonEditError(f"kind must be one of {', '.join(KINDS)}, not '{kind}'.")
        if not 0 <= share <= 1:
            raise ReasonEditError(f"share must be between 0 and 1, not {share}.")
        self.source, self.kind, self.share, self.seed = source, kind, share, seed
        self.edits = source.edits

    def candidates(self) -> Iterator[Edit]:
        """The source's samples with their reasoning spoilt."""
        lenders = list(islice(self.source.candidates(), _LENDERS))
        for edit in self.source.candidates():
            rng = random.Random(f"noise-{self.kind}-{self.seed}-{edit.id}")
            others = [e for e in lenders if e.id != edit.id and not matches(e.answer, edit.targets)] or [edit]
            kept = [(s, e) for s, e in zip(edit.reasoning, edit.evidence, strict=True)]
            spoilt = self._spoilt(rng, edit, kept, others)
            yield replace(edit, reasoning=[s for s, _ in spoilt], evidence=[e for _, e in spoilt])

    def _spoilt(self, rng: random.Random, edit: Edit, kept: list, others: Sequence[Edit]) -> list:  # type: ignore[type-arg]
        def lent() -> str:
            return rng.choice(rng.choice(others).reasoning)

        if self.kind == "replaced":
            return [(lent(), []) if rng.random() < self.share else pair for pair in kept]
        if self.kind == "mixed":
            return [p for pair in kept for p in ([pair, (lent(), [])] if rng.random() < self.share else [pair])]
        if rng.random() >= self.share:
            return kept
        if self.kind == "missing":
            if len(kept) == 1:
                return kept  # an edit without any reasoning is refused
            gone = rng.randrange(len(kept))
            return [pair for i, pair in enumerate(kept) if i != gone]
        other = rng.choice(others)
        naming = [i for i, (s, _) in enumerate(kept) if edit.answer in s]
        where = naming[-1] if naming else len(kept) - 1
        false = kept[where][0].replace(edit.answer, other.answer) if naming else other.reasoning[-1]
        return [(false, e) if i == where else (s, e) for i, (s, e) in enumerate(kept)]

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The source's own."""
        return self.source.probes(edits, right)
