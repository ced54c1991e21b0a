"""What the paper claims beside what the results say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from reasonedit.experiments.bootstrap import Estimate, Samples, difference
from reasonedit.experiments.editors import NO_RIVALS, OURS, OWN, PAPER_ROW
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import TableRow
from reasonedit.groups import LABELS

from .verdicts import EDITS, OPEN, YES, format_basis, format_difference, judge, negate

MARGIN = 0.05
"""What counts as no loss, and as no change: an interval must lie within it."""
ENOUGH = 0.02
"""What more facts may add where some suffice."""

Rows = Mapping[str, TableRow]


@dataclass(frozen=True)
class Finding:
    """One claim.

    Attributes:
        claim: What is claimed.
        verdict: ``"yes"`` or ``"no"`` where the intervals of the differences show it, ``"open"`` otherwise.
        figures: What the results say, in figures, and from how many seeds and edits.
    """

    claim: str
    verdict: str
    figures: str


def judge_claims(tables: Mapping[str, Sequence[TableRow]]) -> list[Finding]:
    """All claims that the results bear on, by the experiments that were run.

    A claim is "yes" or "no" only where 95 % intervals of paired differences show it, on two seeds or more that have 20
    edits together.
    """
    rows = {name: {row.name: row for row in table} for name, table in tables.items()}
    findings: list[Finding | None] = []
    if OURS in rows.get("main", {}):
        findings += _judge_main(rows["main"])
    if OURS in rows.get("embedding", {}):
        table = rows["embedding"]
        for other, name in (("vision", "the vision half"), ("sentence", "the sentence half")):
            if other in table:
                claim, groups = f"The dual embedding beats {name} alone", ("i_gen", "t_gen", "r_gen", "loc")
                findings.append(_judge_against(table, other, claim, groups))
    for line, whose in (("ours", "ours"), ("paper's", "the paper's design")):
        if "threshold" in rows:
            claim = f"p between 10 and 50 is robust ({whose})"
            findings.append(_judge_range(rows["threshold"], line, 10, 50, claim))
        if "k" in rows:
            findings.append(_judge_number_of_facts(rows["k"], line, 5, f"K = 5 suffices ({whose})"))
    if OURS in rows.get("stress", {}):
        findings.append(_judge_drift(rows["stress"][OURS], "Sequential editing does not drift"))
    return [finding for finding in findings if finding is not None]


def _judge_main(table: Rows) -> list[Finding | None]:
    findings = []
    for group in ("r_gen", "coe_gen"):
        claim = f"ReasonEdit corrects more than any other editor: {LABELS[group]}"
        findings.append(_judge_against_all(table, group, claim, 0.0, left_out=()))
    for group in ("rel", "loc"):
        claim = f"{LABELS[group]} is not below that of the best editor (by {MARGIN:g} or more)"
        findings.append(_judge_against_all(table, group, claim, -MARGIN, left_out=("none",)))
    if PAPER_ROW in table:
        claim, groups = "Our design does better than the paper's", ("r_gen", "coe_gen", "loc", "hard_loc")
        findings.append(_judge_against(table, PAPER_ROW, claim, groups))
    return findings


def _judge_against_all(table: Rows, group: str, claim: str, least: float, left_out: Sequence[str]) -> Finding | None:
    """Ours is ahead of every other editor by more than ``least``, which is below 0 where no loss is claimed.

    Where no other editor was run there is nothing to judge; those that share no edit with ours are named.
    """
    no_rivals = {*OWN, *NO_RIVALS, *left_out}
    rivals = [row for name, row in table.items() if name not in no_rivals]
    titles = {row.name: row.title for row in EXPERIMENTS["main"].rows if row.name not in no_rivals}
    titles |= {row.name: row.title for row in rivals}
    leads = {row.name: negate(row.differences[group]) for row in rivals if group in row.differences}
    is_asked = any(group in row.metrics for row in rivals) and group in table[OURS].metrics
    if all(row.name == "none" for row in rivals) or not is_asked:
        return None
    verdict = judge(leads.values(), lambda e: e.low > least, lambda e: e.high < least)
    missing = [title for name, title in titles.items() if name not in leads]
    if missing and verdict == YES:
        verdict = OPEN
    figures = f"{table[OURS].metrics[group].mean:.3f}"
    if leads:
        closest = min(leads, key=lambda name: (math.isfinite(leads[name].low), leads[name].low))
        figures += f"; least surely ahead of {titles[closest]}: {format_difference(leads[closest])}; "
        figures += format_basis(leads.values())
    return Finding(claim, verdict, figures + (f"; not compared with {', '.join(missing)}" if missing else ""))


def _judge_against(table: Rows, other: str, claim: str, groups: Sequence[str]) -> Finding | None:
    """Better in one group at least, and in no group worse by the margin or more."""
    leads = {g: negate(table[other].differences[g]) for g in groups if g in table[other].differences}
    if not leads:
        return None
    better, worse = any(e.low > 0 for e in leads.values()), all(e.high < 0 for e in leads.values())
    verdict = judge(leads.values(), lambda e: better and e.low > -MARGIN, lambda e: worse or e.high < -MARGIN)
    figures = "; ".join(f"{LABELS[g]} {format_difference(e)}" for g, e in leads.items())
    rule = f"better in one, in none worse by {MARGIN:g}"
    return Finding(claim, verdict, f"{figures}; {format_basis(leads.values())} ({rule})")


def _judge_range(table: Rows, line: str, low: float, high: float, claim: str) -> Finding | None:
    """No change between any two settings within the range reaches the margin."""
    inside = [r for r in table.values() if r.line == line and r.x is not None and low <= r.x <= high]
    changes: dict[str, list[Estimate]] = {}
    for group in ("r_gen", "coe_gen", "loc", "hard_loc"):
        for one, other in combinations(inside, 2):
            change = _difference(other.samples, one.samples, group)
            if change is not None:
                changes.setdefault(LABELS[group], []).append(change)
    if not changes:
        return None
    every = [e for of_group in changes.values() for e in of_group]
    verdict = judge(every, lambda e: max(-e.low, e.high) < MARGIN, lambda e: max(e.low, -e.high) > MARGIN)
    missing = [x for x in (low, high) if x not in {row.x for row in inside}]
    if missing and verdict == YES:
        verdict = OPEN
    largest = {name: max(of_group, key=lambda e: (e.edits > 0, abs(e.mean))) for name, of_group in changes.items()}
    text = ", ".join(f"{name} {format_difference(e)}" for name, e in largest.items())
    figures = f"largest change within the range: {text}; {format_basis(every)}"
    figures += f" (robust: all intervals within ±{MARGIN:g})"
    figures += f"; p = {' and '.join(f'{x:g}' for x in missing)} was not run" if missing else ""
    return Finding(claim, verdict, figures)


def _judge_number_of_facts(table: Rows, line: str, k: float, claim: str) -> Finding | None:
    """No other number of facts reaches more, by the bound."""
    by_k = {r.x: r for r in table.values() if r.line == line and r.x is not None and "r_gen" in r.samples}
    if k not in by_k or len(by_k) < 2:
        return None
    gains: dict[float, Estimate] = {}
    for x, row in by_k.items():
        gain = _difference(row.samples, by_k[k].samples, "r_gen") if x != k and x is not None else None
        if gain is not None and x is not None:
            gains[x] = gain
    verdict = judge(gains.values(), lambda e: e.high < ENOUGH, lambda e: e.low > ENOUGH)
    has_larger = any(x > k for x in gains)
    if verdict == YES and not has_larger:
        verdict = OPEN
    best = max(gains, key=lambda x: (gains[x].edits > 0, gains[x].mean))  # of those that were asked the same
    figures = f"R-Gen {by_k[k].metrics['r_gen'].mean:.3f} at K = {k:g}; most is gained by K = {best:g}: "
    figures += f"{format_difference(gains[best])}; {format_basis(gains.values())}"
    figures += f" (suffices: no interval reaches {ENOUGH:g})"
    return Finding(claim, verdict, figures + ("" if has_larger else f"; no K above {k:g} was run"))


def _judge_drift(row: TableRow, claim: str) -> Finding | None:
    """What was asked early and again in the end is answered as well then, within the margin."""
    stops = sorted(row.earlier)
    if len(stops) < 2:
        return None
    last = row.earlier[stops[-1]]

    def changes_since(stop: int) -> dict[str, Estimate]:
        changes = {g: _difference(last, row.earlier[stop], g) for g in ("rel", "r_gen", "loc", "hard_loc")}
        return {LABELS[g]: e for g, e in changes.items() if e is not None}

    # From the first stop at which enough was asked that is asked again in the end.
    by_stop = {stop: changes_since(stop) for stop in stops[:-1]}
    enough = [stop for stop, changes in by_stop.items() if changes and min(e.edits for e in changes.values()) >= EDITS]
    first = (enough or stops)[0]
    changes = by_stop[first]
    if not changes:
        return None
    verdict = judge(changes.values(), lambda e: e.low > -MARGIN, lambda e: e.high < -MARGIN)
    text = ", ".join(f"{name} {format_difference(e)}" for name, e in changes.items())
    start, end = (f"{round(row.stops[stop], 1):g}" for stop in (first, stops[-1]))
    figures = f"from {start} to {end} edits, of the same probes: {text}; {format_basis(changes.values())}"
    return Finding(claim, verdict, f"{figures} (no drift: none lower by {MARGIN:g})")


def _difference(one: Mapping[str, Samples], other: Mapping[str, Samples], group: str) -> Estimate | None:
    if group not in one or group not in other:
        return None
    return difference(one[group], other[group])
