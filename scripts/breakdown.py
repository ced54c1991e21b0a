"""Results of an experiment by known and novel kinds of things, and why questions failed.

Use: scripts/breakdown results/main --rows reasonedit ike-cot
"""

from __future__ import annotations

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.data.world.kinds import NOVEL_KINDS
from reasonedit.errors import NotFoundError
from reasonedit.experiments.agreement import CellRows, select_agreeing
from reasonedit.experiments.gallery import CAUSES, cause_of
from reasonedit.experiments.tables import cells_in, is_alone
from reasonedit.groups import labels_of
from reasonedit.rounds import final_probes

Shares = Mapping[tuple[str, str], tuple[int, int]]
"""Right answers and questions, by ``"known"`` or ``"novel"`` and group."""


def kinds_of_edits(record: Mapping[str, Any], wanted: Iterable[str]) -> dict[str, str]:
    """The kind of thing that each edit of a cell turns on, by the edit's id."""
    world = EmbeddedWorld(**record["data"]["init_args"]["source"]["init_args"])
    missing = set(wanted)
    for edit in world.candidates():
        missing.discard(edit.id)
        if not missing:
            break
    return {name: world.sample(name).kind for name in wanted}


def break_down(cells: Sequence[CellRows]) -> tuple[dict[tuple[str, str], tuple[int, int]], Counter[tuple[str, str]]]:
    """Shares by known or novel kind and group, and failures by group and cause, after the last edit."""
    shares: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    causes: Counter[tuple[str, str]] = Counter()
    for record, rows in cells:
        asked = final_probes(rows, alone=is_alone(record))
        kinds = kinds_of_edits(record, {row["edit"] for row in asked})
        for row in asked:
            of_group = shares["novel" if kinds[row["edit"]] in NOVEL_KINDS else "known", row["group"]]
            of_group[0] += bool(row["right"])
            of_group[1] += 1
            cause = cause_of(row)
            if cause is not None:
                causes[row["group"], cause] += 1
    return {key: (right, total) for key, (right, total) in shares.items()}, causes


def describe(name: str, shares: Shares, causes: Mapping[tuple[str, str], int]) -> str:
    """Two tables in Markdown."""
    labels = labels_of(group for _, group in shares)
    lines = [f"### {name}", "", f"| | {' | '.join(labels.values())} |", "| --- " * (len(labels) + 1) + "|"]
    for which in ("known", "novel"):
        found = [shares.get((which, group), (0, 0)) for group in labels]
        cells = [f"{right / total:.3f} ({total})" if total else "–" for right, total in found]
        lines.append(f"| {which} kinds | {' | '.join(cells)} |")
    for cause in CAUSES:
        lines.append(f"| {cause} | {' | '.join(str(causes.get((group, cause), 0)) for group in labels)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/breakdown", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of an experiment on the embedded world")
    parser.add_argument("--rows", nargs="+", default=["reasonedit"], help="rows of the experiment")
    args = parser.parse_args()
    cells = select_agreeing(cells_in(args.folder)).cells
    for name in args.rows:
        of_row = [cell for cell in cells if cell[0]["row"] == name]
        if not of_row:
            raise NotFoundError(f"There are no results of '{name}' in '{args.folder}'.")
        print(describe(name, *break_down(of_row)), end="\n\n")


if __name__ == "__main__":
    main()
