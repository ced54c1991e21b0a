"""What benchmarks compared: kept in a file while they run, and printed as one table at the end."""

from __future__ import annotations

import json
import operator
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

FILE = "REASONEDIT_BENCH_RESULTS"
"""Names the file to which results are appended, one line of JSON each; without it they are only printed."""

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True)
class Result:
    """Two sides of a comparison, from one run.

    Attributes:
        bench: The benchmark; the variable ``REASONEDIT_BENCH_NAME`` says it.
        what: What is compared, and on what.
        sides: The names of both sides.
        values: What each took, in seconds, or other numbers with their ``unit``.
        aim: ``"<= X"`` or ``">= X"`` for the first value divided by the second; empty where none is set.
        unit: ``"ms"`` for times; else it is printed as it is.
    """

    bench: str
    what: str
    sides: tuple[str, str]
    values: tuple[float, float]
    aim: str
    unit: str = "ms"

    @property
    def ratio(self) -> float:
        """The first side by the second."""
        return self.values[0] / self.values[1] if self.values[1] else float("inf")

    @property
    def is_met(self) -> bool | None:
        """Whether the ratio is what is aimed at; ``None`` where nothing is."""
        if not self.aim:
            return None
        sign, bound = self.aim.split()
        return bool(_COMPARE[sign](self.ratio, float(bound)))

    def show(self, value: float) -> str:
        """One side's value with its unit."""
        return (
            f"{value * 1e3:,.{1 if value >= 0.01 else 3}f} ms"
            if self.unit == "ms"
            else f"{value:,.4g} {self.unit}".rstrip()
        )


def keep(result: Result) -> None:
    """Append a result to the file that the environment names, if it names one."""
    path = os.environ.get(FILE)
    if path:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(result)) + "\n")


def read(path: Path) -> list[Result]:
    """The results in a file, in their order."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
    return [Result(**{**row, "sides": tuple(row["sides"]), "values": tuple(row["values"])}) for row in rows]


def show_table(results: list[Result], not_run: dict[str, str]) -> None:
    """Print all results, and beneath them why a benchmark is missing.

    Args:
        results: The results.
        not_run: For each benchmark that gave none, or not all, the reason.
    """
    table = Table("bench", "what", "side A", "A", "side B", "B", "A / B", "target", "met", box=box.SIMPLE_HEAD)
    for r in results:
        met = {True: "yes", False: "NO", None: ""}[r.is_met]
        a, b = (r.show(value) for value in r.values)
        table.add_row(r.bench, r.what, r.sides[0], a, r.sides[1], b, f"{r.ratio:.2f}", r.aim, met)
    console = Console(width=None if os.isatty(1) else 200)
    console.print(table)
    judged = [r.is_met for r in results if r.is_met is not None]
    console.print(f"{sum(judged)} of {len(judged)} targets met")
    for name, reason in not_run.items():
        console.print(f"{name}: {reason}")
