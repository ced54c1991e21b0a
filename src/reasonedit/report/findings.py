"""What the paper claims beside what the results say."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from reasonedit.experiments.bootstrap import Estimate, Samples, difference
from reasonedit.experiments.editors import ORACLES, OURS, PAPER_ROW
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.tables import TableRow
from reasonedit.groups import LABELS

YES, NO, OPEN = "yes", "no", "open"
MARGIN = 0.05
"""What counts as no loss, and as no change: an interval must lie within it."""
ENOUGH = 0.02
"""What more facts may add where some suffice."""
SEEDS, EDITS = 2, 20
"""Of fewer seeds or edits nothing is concluded."""


@dataclass(frozen=True)
class Finding:
    """One claim.

    Attributes:
        claim: What is claimed.
        verdict: ``"yes"`` or ``"no"`` where the intervals of the differences show it, ``"open"`` otherwise.
        seen: What was seen, in figures, and from how many seeds and edits.
    """

    claim: str
    verdict: str
    seen: str


def findings(tables: Mapping[str, Sequence[TableRow]]) -> list[Finding]:
    """All claims that the results bear on, by the experiments that were run.

    A claim is "yes" or "no" only where 95 % intervals of paired differences show it, on two seeds or more that have 20
    edits together.
    """
    made: list[Finding] = []
    rows = {name: {row.name: row for row in table} for name, table in tables.items()}
    if "main" in rows and OURS in rows["main"]:
        main = rows["main"]
        for group in ("r_gen", "coe_gen"):
            claim = f"ReasonEdit corrects more than any other editor: {LABELS[group]}"
            made += _against_all(main, group, claim, 0.0, left_out=())
        for group in ("rel", "loc"):
            claim = f"{LABELS[group]} is not below that of the best editor (by {MARGIN:g} or more)"
            made += _against_all(main, group, claim, -MARGIN, left_out=("none",))
        if PAPER_ROW in main:
            made += _against(
                main, PAPER_ROW, "Our design does better than the paper's", ("r_gen", "coe_gen", "loc", "hard_loc")
            )
    if "embedding" in rows and OURS in rows["embedding"]:
        table = rows["embedding"]
        for other, name in (("vision", "the vision half"), ("sentence", "the sentence half")):
            if other in table:
                made += _against(
                    table, other, f"The dual embedding beats {name} alone", ("i_gen", "t_gen", "r_gen", "loc")
                )
    for line, whose in (("ours", "ours"), ("paper's", "the paper's design")):
        if "threshold" in rows:
            made += _range(rows["threshold"], line, 10, 50, f"p between 10 and 50 is robust ({whose})")
        if "k" in rows:
            made += _enough(rows["k"], line, 5, f"K = 5 suffices ({whose})")
    if "stress" in rows and OURS in rows["stress"]:
        made += _drift(rows["stress"][OURS], "Sequential editing does not drift")
    return made


# ---- from intervals to verdicts


def _verdict(seen: Iterable[Estimate], shown: Callable[[Estimate], bool], refuted: Callable[[Estimate], bool]) -> str:
    """Yes if every difference shows the claim, no if one refutes it, else open.

    Of too few seeds or edits, or where an interval has an end that is no number, it is open.
    """
    estimates = list(seen)
    if not estimates or any(_thin(e) for e in estimates):
        return OPEN
    if any(refuted(e) for e in estimates):
        return NO
    return YES if all(shown(e) for e in estimates) else OPEN


def _thin(e: Estimate) -> bool:
    """Whether nothing can be concluded from a difference."""
    numbers = all(map(math.isfinite, (e.mean, e.low, e.high))) and e.low <= e.high
    return not numbers or len(e.seeds) < SEEDS or e.edits < EDITS


def _from(seen: Iterable[Estimate]) -> str:
    """From how much it was seen: the least of all differences."""
    estimates = list(seen)
    if not estimates:
        return ""
    seeds, edits = min(len(e.seeds) for e in estimates), min(e.edits for e in estimates)
    told = f"from {seeds} seed{'s' if seeds != 1 else ''} and {edits} edit{'s' if edits != 1 else ''}"
    if seeds < SEEDS or edits < EDITS:
        return f"{told}, too few to conclude anything"
    return f"{told}, without an interval" if any(_thin(e) for e in estimates) else told


def _turned(e: Estimate) -> Estimate:
    """A difference the other way round."""
    return replace(e, mean=0.0 - e.mean, low=0.0 - e.high, high=0.0 - e.low, seeds=tuple(0.0 - s for s in e.seeds))


def _shown(e: Estimate, *, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    return f"{e.mean:{form}} [{e.low:{form}}, {e.high:{form}}]"


def _difference(one: Mapping[str, Samples], other: Mapping[str, Samples], group: str) -> Estimate | None:
    if group not in one or group not in other:
        return None
    return difference(one[group], other[group])


# ---- the claims


def _against_all(
    main: Mapping[str, TableRow], group: str, claim: str, least: float, left_out: Sequence[str]
) -> list[Finding]:
    """Ours is ahead of every other editor by more than ``least``, which is below 0 where no loss is claimed."""
    wanted = [row for row in EXPERIMENTS["main"].rows if row.name not in (OURS, PAPER_ROW, *ORACLES, *left_out)]
    others = [r for n, r in main.items() if n not in (OURS, PAPER_ROW, *ORACLES, *left_out)]
    ahead = {r.title: _turned(r.differences[group]) for r in others if group in r.differences}
    if not ahead or group not in main[OURS].metrics:
        return []
    verdict = _verdict(ahead.values(), lambda e: e.low > least, lambda e: e.high < least)
    missing = [row.title for row in wanted if row.title not in ahead]
    if missing and verdict == YES:
        verdict = OPEN
    closest = min(ahead, key=lambda title: (math.isfinite(ahead[title].low), ahead[title].low))
    e = ahead[closest]
    seen = f"{main[OURS].metrics[group].mean:.3f}; least surely ahead of {closest}: {_shown(e, sign=True)}; "
    seen += _from(ahead.values())
    return [Finding(claim, verdict, seen + (f"; not compared with {', '.join(missing)}" if missing else ""))]


def _against(table: Mapping[str, TableRow], other: str, claim: str, groups: Sequence[str]) -> list[Finding]:
    """Better in one group at least, and in no group worse by the margin or more."""
    found = {g: _turned(table[other].differences[g]) for g in groups if g in table[other].differences}
    if not found:
        return []
    differences = found.values()
    better = any(e.low > 0 for e in differences)
    verdict = _verdict(differences, lambda e: better and e.low > -MARGIN, lambda e: not better and e.high < 0)
    seen = "; ".join(f"{LABELS[g]} {_shown(e, sign=True)}" for g, e in found.items())
    rule = f"better in one, in none worse by {MARGIN:g}"
    return [Finding(claim, verdict, f"{seen}; {_from(differences)} ({rule})")]


def _range(table: Mapping[str, TableRow], line: str, low: float, high: float, claim: str) -> list[Finding]:
    """No change between any two settings within the range reaches the margin."""
    inside = [r for r in table.values() if r.line == line and r.x is not None and low <= r.x <= high]
    if len(inside) < 2:
        return []
    seen: dict[str, list[Estimate]] = {}
    for group in ("r_gen", "coe_gen", "loc", "hard_loc"):
        for one, other in combinations(inside, 2):
            changed = _difference(other.samples, one.samples, group)
            if changed is not None:
                seen.setdefault(LABELS[group], []).append(changed)
    if not seen:
        return []
    every = [e for changes in seen.values() for e in changes]
    verdict = _verdict(every, lambda e: max(-e.low, e.high) < MARGIN, lambda e: max(e.low, -e.high) > MARGIN)
    ends = {r.x for r in inside}
    missing = [x for x in (low, high) if x not in ends]
    if missing and verdict == YES:
        verdict = OPEN
    largest = {name: max(changes, key=lambda e: abs(e.mean)) for name, changes in seen.items()}
    text = ", ".join(f"{name} {_shown(e, sign=True)}" for name, e in largest.items())
    more = f"; p = {' and '.join(f'{x:g}' for x in missing)} was not run" if missing else ""
    return [
        Finding(
            claim,
            verdict,
            f"largest change within the range: {text}; {_from(every)} (robust: all intervals within ±{MARGIN:g}){more}",
        )
    ]


def _enough(table: Mapping[str, TableRow], line: str, k: float, claim: str) -> list[Finding]:
    """No other number of facts reaches more, by the bound."""
    mine = {r.x: r for r in table.values() if r.line == line and r.x is not None and "r_gen" in r.samples}
    if k not in mine or len(mine) < 2:
        return []
    gained: dict[float, Estimate] = {}
    for x, row in mine.items():
        more = _difference(row.samples, mine[k].samples, "r_gen") if x != k and x is not None else None
        if more is not None and x is not None:
            gained[x] = more
    verdict = _verdict(gained.values(), lambda e: e.high < ENOUGH, lambda e: e.low > ENOUGH)
    larger = any(x > k for x in gained)
    if verdict == YES and not larger:
        verdict = OPEN
    best = max(gained, key=lambda x: gained[x].mean)
    seen = f"R-Gen {mine[k].metrics['r_gen'].mean:.3f} at K = {k:g}; most is gained by K = {best:g}: "
    seen += f"{_shown(gained[best], sign=True)}; {_from(gained.values())} (suffices: no interval reaches {ENOUGH:g})"
    return [Finding(claim, verdict, seen + ("" if larger else f"; no K above {k:g} was run"))]


def _drift(row: TableRow, claim: str) -> list[Finding]:
    """What was asked early and again in the end is answered as well then, within the margin."""
    stops = sorted(row.earlier)
    if len(stops) < 2:
        return []
    last = row.earlier[stops[-1]]

    def changes(stop: int) -> dict[str, Estimate]:
        found = {g: _difference(last, row.earlier[stop], g) for g in ("rel", "r_gen", "loc", "hard_loc")}
        return {LABELS[g]: e for g, e in found.items() if e is not None}

    # From the first stop at which enough was asked that is asked again in the end.
    by_stop = {stop: changes(stop) for stop in stops[:-1]}
    enough = [s for s, c in by_stop.items() if c and min(e.edits for e in c.values()) >= EDITS]
    first = (enough or stops)[0]
    seen = by_stop[first]
    if not seen:
        return []
    verdict = _verdict(seen.values(), lambda e: e.low > -MARGIN, lambda e: e.high < -MARGIN)
    text = ", ".join(f"{name} {_shown(e, sign=True)}" for name, e in seen.items())
    told = f"from {first} to {stops[-1]} edits, of the same probes: {text}; {_from(seen.values())}"
    return [Finding(claim, verdict, f"{told} (no drift: none lower by {MARGIN:g})")]
