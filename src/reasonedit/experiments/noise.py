"""Reasoning that is not as it should be: sentences that are irrelevant, wrong or missing."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from reasonedit.boxes import Region
from reasonedit.data.source import EditSource, ExpectsProbes, Probe
from reasonedit.errors import InputError
from reasonedit.metrics import matches
from reasonedit.types import Edit

KINDS = ("replaced", "mixed", "wrong", "missing")
_LENDERS = 50  # samples whose sentences and answers are put in the place of others'
_Sentence = tuple[str, Sequence[Region] | None]  # with its evidence


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
        InputError: ``kind`` or ``share`` is out of range.
    """

    def __init__(self, source: EditSource, kind: str, share: float, seed: int = 0) -> None:
        if kind not in KINDS:
            raise InputError(f"kind must be one of {', '.join(KINDS)}, not '{kind}'.")
        if not 0 <= share <= 1:
            raise InputError(f"share must be between 0 and 1, not {share}.")
        self.source, self.kind, self.share, self.seed = source, kind, share, seed
        self.edits = source.edits

    def candidates(self) -> Iterator[Edit]:
        """The source's samples with their reasoning spoilt."""
        lenders = list(islice(self.source.candidates(), _LENDERS))
        for edit in self.source.candidates():
            rng = random.Random(f"noise-{self.kind}-{self.seed}-{edit.id}")
            others = [e for e in lenders if e.id != edit.id and not matches(e.answer, edit.targets)] or [edit]
            sentences = list(zip(edit.reasoning, edit.evidence, strict=True))
            spoilt = self._spoil(rng, edit, sentences, others)
            yield replace(edit, reasoning=[s for s, _ in spoilt], evidence=[e for _, e in spoilt])

    def _spoil(
        self, rng: random.Random, edit: Edit, sentences: list[_Sentence], others: Sequence[Edit]
    ) -> list[_Sentence]:
        def lend() -> _Sentence:
            return rng.choice(rng.choice(others).reasoning), []

        if self.kind == "replaced":
            return [lend() if rng.random() < self.share else own for own in sentences]
        if self.kind == "mixed":
            return [s for own in sentences for s in ([own, lend()] if rng.random() < self.share else [own])]
        if rng.random() >= self.share:
            return sentences
        if self.kind == "missing":
            if len(sentences) == 1:
                return sentences  # an edit without any reasoning is refused
            missing = rng.randrange(len(sentences))
            return [own for i, own in enumerate(sentences) if i != missing]
        other = rng.choice(others)
        naming = [i for i, (text, _) in enumerate(sentences) if edit.answer in text]
        place = naming[-1] if naming else len(sentences) - 1
        text, evidence = sentences[place]
        wrong = text.replace(edit.answer, other.answer) if naming else other.reasoning[-1]
        return [*sentences[:place], (wrong, evidence), *sentences[place + 1 :]]

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The source's own."""
        return self.source.probes(edits, right)

    def expected_probes(self, edit_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """The source's own."""
        return self.source.expected_probes(edit_ids) if isinstance(self.source, ExpectsProbes) else {}
