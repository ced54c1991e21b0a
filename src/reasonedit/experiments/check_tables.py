"""How often the checks of edits are right, as rows of small tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .bootstrap import Estimate, summarise
from .checks import OUTCOMES, outcome_of, said_of, was_asked
from .tables import Table, TableRow

_VERDICTS = "By the probes, which the check has not seen; 95 % interval. Of “all” precision is the share that agrees."
VERDICTS_HEAD = ("The check says", "edits", *(f"it {outcome}" for outcome in OUTCOMES), "precision", "recall")
DOUBTS_TEXT = "Sentences that the check names as possibly wrong; 95 % interval."
DOUBTS_HEAD = ("", "spoilt ones caught", "others wrongly named")

_Test = Callable[[Mapping[str, Any]], bool]
_Measured = Mapping[int, Sequence[Mapping[str, Any]]]


def verdicts_text(table: Table) -> str:
    """What :func:`verdict_rows` is of, and which edits it leaves out."""
    rows = {row.name for row in table}
    left_out = sum(not was_asked(m) for c in table.cells if c["row"] in rows for m in c.get("checks") or ())
    if not left_out:
        return _VERDICTS
    edits = "1 edit does" if left_out == 1 else f"{left_out} edits do"
    return f"{_VERDICTS} {edits} not count, whose questions were not asked again in the end."


def verdict_rows(table: Table) -> list[list[str]]:
    """For each row and each verdict, what became of the edits by their probes; none where nothing was checked."""
    rows = []
    for row in table:
        measured = _asked_ones(_checks_of(table, row))
        pairs = Counter((said_of(m), outcome_of(m)) for checks in measured.values() for m in checks)
        if pairs:
            agree = _share(measured, lambda _: True, lambda m: said_of(m) == outcome_of(m))
            totals = [sum(pairs[said, outcome] for said in OUTCOMES) for outcome in OUTCOMES]
            rows.append([f"{row.title}: all", str(sum(totals)), *map(str, totals), agree, ""])
        for name in OUTCOMES:
            counts = [pairs[name, outcome] for outcome in OUTCOMES]
            if not any(counts) and not any(pairs[other, name] for other in OUTCOMES):
                continue
            precision, recall = _share(measured, _says(name), _is(name)), _share(measured, _is(name), _says(name))
            rows.append([f"“{name}”", str(sum(counts)), *map(str, counts), precision, recall])
    return rows


def doubt_rows(table: Table) -> list[list[str]]:
    """For each row, how many of its spoilt sentences were doubted, and how many of the others."""
    rows = []
    for row in table:
        measured = _checks_of(table, row)
        if measured:
            rows.append(
                [row.title, *(format_with_interval(_doubted(measured, spoilt=spoilt)) for spoilt in (True, False))]
            )
    return rows


def agreement_of(table: Table) -> Estimate:
    """The share of all checks whose verdict is what the probes say."""
    return _estimate(_asked_ones(_all_checks(table)), lambda m: [said_of(m) == outcome_of(m)])


def share_of_doubted(table: Table, *, spoilt: bool) -> Estimate:
    """The share of the spoilt sentences, or of the others, that checks name as possibly wrong."""
    return _doubted(_all_checks(table), spoilt=spoilt)


def _doubted(measured: _Measured, *, spoilt: bool) -> Estimate:
    return _estimate(measured, lambda m: [bool(why) for was, why in m["sentences"] if was is spoilt])


def _all_checks(table: Table) -> _Measured:
    """What was measured of all checks, by seed; those of all rows."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for cell in table.cells:
        found.setdefault(cell["seed"], []).extend(cell.get("checks") or [])
    return found


def _estimate(measured: _Measured, outcomes: Callable[[Mapping[str, Any]], Sequence[bool]]) -> Estimate:
    """The share of the outcomes that hold; those of one edit stay together."""
    samples: dict[int, dict[str, tuple[float, int]]] = {}
    for seed, checks in measured.items():
        for m in checks:
            right, total = samples.setdefault(seed, {}).get(m["edit"], (0.0, 0))
            held = outcomes(m)
            samples[seed][m["edit"]] = (right + sum(held), total + len(held))
    return summarise({"": samples})[""][0]


def _checks_of(table: Table, row: TableRow) -> _Measured:
    """What was measured of checks, by seed; nothing where the row had none."""
    cells = {cell["seed"]: cell.get("checks") or [] for cell in table.cells if cell["row"] == row.name}
    return {seed: checks for seed, checks in cells.items() if checks}


def _asked_ones(measured: _Measured) -> _Measured:
    """Those of which it is known what became of them."""
    return {seed: [m for m in checks if was_asked(m)] for seed, checks in measured.items()}


def _says(outcome: str) -> _Test:
    return lambda m: said_of(m) == outcome


def _is(outcome: str) -> _Test:
    return lambda m: outcome_of(m) == outcome


def _share(measured: _Measured, counts: _Test, right: _Test) -> str:
    return format_with_interval(_estimate(measured, lambda m: [right(m)] if counts(m) else []))


def format_with_interval(e: Estimate) -> str:
    """``"0.80 [0.70, 0.90] of 66"``."""
    if not e.samples:
        return "–"
    interval = f" [{e.low:.2f}, {e.high:.2f}]" if math.isfinite(e.low) and math.isfinite(e.high) else ""
    return f"{e.mean:.2f}{interval} of {e.samples}"
