"""A data set of toy edits for streams over the tiny VLM, whose answers are noise: every sample is an error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from helpers.tiny import picture
from reasonedit import Edit, Query
from reasonedit.data.source import Probe


class ToySource:
    """Edits with one probe of each of three groups."""

    def __init__(self, edits: int = 5) -> None:
        self.edits = edits

    def candidates(self) -> Iterator[Edit]:
        for i in range(3 * self.edits):
            yield Edit.of(
                picture(i), f"What is number {i}?", f"thing {i}", [f"Number {i} is round.", f"It is thing {i}."]
            )

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        made = []
        for i, edit in enumerate(edits):
            made.append(Probe("rel", Query(edit.image, edit.question, id=f"rel-{i}"), edit.answer, edit.id))
            made.append(Probe("t_gen", Query(edit.image, f"Say: {edit.question}", id=f"t-{i}"), edit.answer, edit.id))
            made.append(Probe("loc", Query(picture(100 + i), "Who?", id=f"loc-{i}"), "nobody at all", edit.id))
        return made
