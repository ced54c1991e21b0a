"""What the paper claims beside what the results say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.plans import ORACLES, OURS, PAPERS
from reasonedit.experiments.tables import TableRow

YES, NO, OPEN = "yes", "no", "open"


@dataclass(frozen=True)
class Finding:
    """One claim.

    Attributes:
        claim: What is claimed.
        verdict: ``"yes"``, ``"no"``, or ``"open"`` where the interval includes 0 or not enough was run.
        seen: What was seen, in figures.
    """

    claim: str
    verdict: str
    seen: str


def findings(tables: Mapping[str, Sequence[TableRow]]) -> list[Finding]:
    """All claims that the results bear on, by the experiments that were run."""
    made: list[Finding] = []
    rows = {name: {row.name: row for row in table} for name, table in tables.items()}
    if "main" in rows and OURS in rows["main"]:
        main = rows["main"]
        for group, name in (("r_gen", "R-Gen"), ("coe_gen", "CoE-Gen")):
            made += _best(main, group, f"ReasonEdit corrects more than any other editor: {name}")
        for group, name in (("rel", "Rel"), ("loc", "Loc")):
            made += _not_below(main, group, f"{name} is not below that of the best editor")
        if PAPERS in main:
            made += _against(
                main, PAPERS, "Our design does better than the paper's", ("r_gen", "coe_gen", "loc", "hard_loc")
            )
    if "embedding" in rows and OURS in rows["embedding"]:
        table = rows["embedding"]
        for other, name in (("vision", "the vision half"), ("sentence", "the sentence half")):
            if other in table:
                made += _against(
                    table, other, f"The dual embedding beats {name} alone", ("i_gen", "t_gen", "r_gen", "loc")
                )
    if "threshold" in rows:
        made += _range(rows["threshold"], "ours", 10, 50, "p between 10 and 50 is robust (ours)")
        made += _range(rows["threshold"], "paper's", 10, 50, "p between 10 and 50 is robust (the paper's design)")
    if "k" in rows:
        made += _enough(rows["k"], "ours", 5, "K = 5 suffices (ours)")
        made += _enough(rows["k"], "paper's", 5, "K = 5 suffices (the paper's design)")
    if "stress" in rows and OURS in rows["stress"]:
        made += _drift(rows["stress"][OURS], "Sequential editing does not drift")
    return made


def _shown(e: Estimate, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{e.mean:{form}} [{e.low:{form}}, {e.high:{form}}]"


def _best(main: Mapping[str, TableRow], group: str, claim: str) -> list[Finding]:
    others = [r for n, r in main.items() if n not in (OURS, PAPERS, *ORACLES) and group in r.differences]
    if not others or group not in main[OURS].metrics:
        return []
    second = max(others, key=lambda r: r.metrics[group].mean)
    ahead = _turned(second.differences[group])
    verdict = YES if ahead.low > 0 else NO if ahead.high < 0 else OPEN
    seen = f"{main[OURS].metrics[group].mean:.3f}; the next is {second.title} with {second.metrics[group].mean:.3f}: "
    return [Finding(claim, verdict, f"{seen}ahead by {_shown(ahead, sign=True)}")]


def _not_below(main: Mapping[str, TableRow], group: str, claim: str) -> list[Finding]:
    others = [r for n, r in main.items() if n not in ("none", OURS, PAPERS, *ORACLES) and group in r.differences]
    if not others or group not in main[OURS].metrics:
        return []
    best = max(others, key=lambda r: r.metrics[group].mean)
    ahead = _turned(best.differences[group])
    verdict = NO if ahead.high < 0 else YES
    seen = f"{main[OURS].metrics[group].mean:.3f}; the best other is {best.title} with {best.metrics[group].mean:.3f}: "
    return [Finding(claim, verdict, f"{seen}difference {_shown(ahead, sign=True)}")]


def _against(table: Mapping[str, TableRow], other: str, claim: str, groups: Sequence[str]) -> list[Finding]:
    found = {g: _turned(table[other].differences[g]) for g in groups if g in table[other].differences}
    if not found:
        return []
    better, worse = [e for e in found.values() if e.low > 0], [e for e in found.values() if e.high < 0]
    verdict = YES if better and not worse else NO if worse and not better else OPEN
    names = {
        "i_gen": "I-Gen",
        "t_gen": "T-Gen",
        "r_gen": "R-Gen",
        "coe_gen": "CoE-Gen",
        "loc": "Loc",
        "hard_loc": "hard Loc",
    }
    return [Finding(claim, verdict, "; ".join(f"{names[g]} {_shown(e, sign=True)}" for g, e in found.items()))]


def _range(table: Mapping[str, TableRow], line: str, low: float, high: float, claim: str) -> list[Finding]:
    inside = [r for r in table.values() if r.line == line and r.x is not None and low <= r.x <= high]
    if len(inside) < 2:
        return []
    spread = {}
    for group, name in (("r_gen", "R-Gen"), ("coe_gen", "CoE-Gen"), ("loc", "Loc"), ("hard_loc", "hard Loc")):
        values = [r.metrics[group].mean for r in inside if group in r.metrics]
        if values:
            spread[name] = max(values) - min(values)
    verdict = YES if max(spread.values()) <= 0.05 else NO
    seen = ", ".join(f"{name} {value:.3f}" for name, value in spread.items())
    return [Finding(claim, verdict, f"largest change within the range: {seen} (robust: none above 0.05)")]


def _enough(table: Mapping[str, TableRow], line: str, k: float, claim: str) -> list[Finding]:
    mine = {r.x: r for r in table.values() if r.line == line and r.x is not None and "r_gen" in r.metrics}
    if k not in mine or len(mine) < 2:
        return []
    shares = {x: row.metrics["r_gen"].mean for x, row in mine.items()}
    best = max(shares, key=lambda x: shares[x])
    lost = shares[best] - shares[k]
    seen = f"R-Gen {shares[k]:.3f} at K = {k:g}, at best {shares[best]:.3f} (K = {best:g})"
    return [Finding(claim, YES if lost <= 0.02 else NO, seen)]


def _drift(row: TableRow, claim: str) -> list[Finding]:
    stops = sorted(row.history)
    if len(stops) < 2:
        return []
    first, last = row.history[stops[0]], row.history[stops[-1]]
    seen, lost = [], 0.0
    for group, name in (("rel", "Rel"), ("r_gen", "R-Gen"), ("loc", "Loc"), ("hard_loc", "hard Loc")):
        if group in first and group in last:
            seen.append(f"{name} {first[group].mean:.2f} → {last[group].mean:.2f}")
            lost = max(lost, first[group].mean - last[group].mean)
    text = f"from {stops[0]} to {stops[-1]} edits: {', '.join(seen)}"
    return [Finding(claim, YES if lost <= 0.05 else NO, text)]


def _turned(e: Estimate) -> Estimate:
    """A difference the other way round."""
    return Estimate(-e.mean, -e.high, -e.low, e.samples)
