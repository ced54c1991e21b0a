"""A data set of toy edits for streams over the tiny VLM, whose answers are noise: every sample is an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

from helpers.tiny import picture
from reasonedit import Edit, Query
from reasonedit.data.source import Probe


class ToySource:
    """Edits with one probe of each of three groups."""

    def __init__(self, edits: int = 5) -> None:
        self.edits = edits

    def candidates(self) -> Iterator[Edit]:
        for i in range(3 * self.edits):
            reasoning = [f"Number {i} is round.", f"It is thing {i}."]
            yield Edit(picture(i), f"What is number {i}?", f"thing {i}", reasoning, id=f"toy-{i}")

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        made = []
        for i, edit in enumerate(edits):
            made.append(Probe("rel", Query(edit.image, edit.question, id=f"rel-{i}"), edit.answer, edit.id))
            made.append(Probe("t_gen", Query(edit.image, f"Say: {edit.question}", id=f"t-{i}"), edit.answer, edit.id))
            made.append(Probe("loc", Query(picture(100 + i), "Who?", id=f"loc-{i}"), "nobody at all", edit.id))
        return made


class SeededToys(ToySource):
    """The same by a seed, with names that stay."""

    training: ClassVar = {"seed": 1000}

    def __init__(self, edits: int = 3, seed: int = 0) -> None:
        super().__init__(edits)
        self.seed = seed

    def candidates(self) -> Iterator[Edit]:
        for i, edit in enumerate(super().candidates()):
            number = f"{self.seed}{i}"
            yield replace(edit, question=f"What is number {number}?", answer=f"thing {number}", id=f"toy-{number}")
