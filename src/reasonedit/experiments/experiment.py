"""An experiment: its rows, each an editor or a design, and its cells."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from reasonedit.design import Design
from reasonedit.errors import NotFoundError

from .cells import Cell, MakeCallbacks
from .editors import EDITORS, OURS
from .making import baseline, editing, load_editor

CLEAN = "clean"
"""The line of the row where lines of a sweep begin; with ``": name"`` behind it of those that end so."""


@dataclass(frozen=True)
class Row:
    """A row of an experiment.

    Attributes:
        name: Names it and its files.
        title: What it is called.
        make: Makes its callbacks.
        x: Where it stands on the axis of a sweep.
        line: The line of a sweep that it belongs to.
        noise: Kind and share of what is done to the reasoning.
        stream: Arguments of the stream in place of the config's.
        chain: What becomes of the VLM's own reasons, where they stand in place of the person's.
        own: Whether it is the row of a line that has what the design has without the sweep.
    """

    name: str
    title: str
    make: MakeCallbacks
    x: float | None = None
    line: str = ""
    noise: tuple[str, float] | None = None
    stream: Mapping[str, Any] = field(default_factory=dict)
    chain: str = ""
    own: bool = False

    @classmethod
    def of_editor(cls, name: str, **options: Any) -> Row:
        """The row of an editor in :data:`EDITORS`.

        Args:
            name: Its name there.
            **options: Attributes of the row.
        """
        title, make = EDITORS[name]
        return cls(name, title, make, **options)

    @classmethod
    def of_design(cls, name: str, title: str, design: Callable[[Design], Design] | Design, **options: Any) -> Row:
        """The row of a design of ReasonEdit.

        Args:
            name: Names the row.
            title: What it is called.
            design: The design, or what makes it of the model's own.
            **options: Attributes of the row.
        """
        return cls(name, title, editing(design), **options)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: Its name on the command line.
        title: Its heading in the report.
        question: What it is to answer, in words.
        rows: Its rows.
        reference: The row that the others are compared with.
        axis: What is on the axis, of a sweep.
        seeds: The seeds by default.
        edits: The number of edits by default.
        varies: What the seeds are of: ``"seed"`` of the edits and all that follows, or ``"probe_seed"``.
        source: The data set that it runs on where neither a config nor a source is named; the default config's where
            it is empty.
        quick: The rows of a first look; all when empty.
    """

    name: str
    title: str
    question: str
    rows: tuple[Row, ...]
    reference: str = OURS
    axis: str = ""
    seeds: tuple[int, ...] = (0, 1, 2)
    edits: int = 40
    varies: str = "seed"
    source: str = ""
    quick: tuple[str, ...] = ()

    def cells(self, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
        """Its cells, seed by seed.

        Args:
            seeds: The seeds; each counts once.
            only: Names of the rows, or of their lines, that are wanted; all when empty.

        Raises:
            NotFoundError: There is no such row.
        """
        names = [row.name for row in self.rows]
        unknown = [name for name in only if name not in {*names, *(row.line for row in self.rows)}]
        if unknown:
            raise NotFoundError(f"The experiment '{self.name}' has no row '{unknown[0]}': use {', '.join(names)}.")
        rows = [row for row in self.rows if not only or row.name in only or row.line in only]
        return [self._cell(row, seed) for seed in dict.fromkeys(seeds) for row in rows]

    def _cell(self, row: Row, seed: int) -> Cell:
        settings = {"line": row.line}
        gallery = row.name == OURS and self.name == "main"
        return Cell(
            row.name, row.title, seed, row.make, settings, row.x, row.stream, row.noise, self.varies, gallery, row.chain
        )


def with_editors(experiment: Experiment, editors: Sequence[str]) -> Experiment:
    """An experiment with further rows, run as its first is.

    Args:
        experiment: The experiment.
        editors: Class paths of editors, made without arguments.

    Raises:
        InputError: There is no such class, or it is no editor.
    """
    rows = list(experiment.rows)
    for path in editors:
        kind = load_editor(path)
        name = path.rpartition(".")[2]
        row = name.lower()
        if any(other.name == row for other in rows):  # another editor of that name: its cells are others
            row = path.lower()
        if all(other.name != row for other in rows):
            taken, own = {other.title for other in rows}, vars(kind).get("title")  # an inherited one is another's
            title = next(text for text in (own, name, path) if text and text not in taken)
            rows.append(Row(row, title, baseline(path), stream=experiment.rows[0].stream))
    return replace(experiment, rows=tuple(rows))
