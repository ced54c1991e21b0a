"""What an experiment answers to its question, in a sentence or two, as far as its results go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from reasonedit.experiments.bootstrap import Estimate
from reasonedit.experiments.check_tables import agreement_of, format_with_interval, share_of_doubted
from reasonedit.experiments.editors import OURS, OWN, PAPER_ROW
from reasonedit.experiments.experiment import Experiment
from reasonedit.experiments.extra_tables import format_points
from reasonedit.experiments.plans import EXPERIMENTS
from reasonedit.experiments.slopes import STEP, lines_of, slopes_of
from reasonedit.experiments.tables import Table, TableRow, are_asked_alike

from .comparing import NAMES, Lead, lead, list_in_words, mean_of, rivals_of, say_basis, say_difference, say_lead
from .verdicts import format_basis, format_difference

_PAPER_BASES = (PAPER_ROW, "paper-dual")
_GROUPS = ("r_gen", "coe_gen", "loc", "hard_loc")


def answer(experiment: Experiment, table: Table) -> str:
    """The answer to an experiment's question.

    Args:
        experiment: The experiment.
        table: Its table.

    Returns:
        What the results say, whichever way; that it is open where they are too few; nothing where the rows that the
        question is about were not run.
    """
    rows = {row.name: row for row in table}
    made = _ANSWERS.get(experiment.name, _compare_changes)(experiment, table, rows)
    return " ".join(f"{sentence}." for sentence in made)


_Rows = dict[str, TableRow]


def _compare_editors(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """Ours beside the other that it is least surely ahead of, on the edits that both have, by All and by Gen."""
    if OURS not in rows:
        return []
    said, leads, apart = [], [], list[str]()
    for metric in ("all", "gen"):
        rivals = rivals_of(table, OWN, metric)
        compared = [one for other in rivals if (one := lead(rows[OURS], other, metric)) is not None]
        apart += [row.title for row in rivals if all(row is not one.other for one in compared)]
        if not compared:
            continue
        found = min(compared, key=lambda one: (one.sign, one.by.mean))  # to be ahead is to be ahead of each
        leads.append(found)
        verdict = {1: f"{found.row.title} is ahead", -1: f"{found.other.title} is ahead", 0: "It is open who is ahead"}
        what = {"all": "By what is corrected and what stays right together", "gen": "By what is corrected alone"}
        verb = verdict[found.sign][0].lower() if found.sign == 0 else verdict[found.sign][0]
        said.append(f"{what[metric]}, {verb}{verdict[found.sign][1:]}: {say_lead(found, metric)}")
    missing = f"; not compared with {list_in_words(list(dict.fromkeys(apart)))}" if apart else ""
    return [*said[:-1], f"{said[-1]} ({say_basis(leads)}{missing})"] if said else []


def _compare_changes(experiment: Experiment, table: Table, rows: _Rows) -> list[str]:
    """What each change of our design does, and each of the paper's, by All."""
    # An editor of one's own is no change to a design.
    planned = {row.name for row in EXPERIMENTS.get(experiment.name, experiment).rows}
    changed = [row for row in table if row.name in planned]
    said = []
    for base, whose in ((rows.get(OURS), "our design"), (_first(rows, _PAPER_BASES), "the paper's design")):
        if base is None or (sentence := _say_changes(base, _changes_of(base, changed), whose)) is None:
            continue
        said.append(sentence)
    return said


def _first(rows: _Rows, names: tuple[str, ...]) -> TableRow | None:
    return next((rows[name] for name in names if name in rows), None)


def _changes_of(base: TableRow, table: Sequence[TableRow]) -> list[Lead]:
    of_paper = base.name in _PAPER_BASES
    changed = [r for r in table if r is not base and r.name not in _PAPER_BASES]
    changed = [r for r in changed if r.name.startswith("paper-") is of_paper]
    return [found for r in changed if (found := lead(r, base, "all")) is not None]


def _say_changes(base: TableRow, changes: list[Lead], whose: str) -> str | None:
    return _say_effects(base, changes, f"changes to {whose}" if len(changes) != 1 else f"change to {whose}")


def _say_effects(base: TableRow, changes: list[Lead], of_what: str, whose: str = "") -> str | None:
    if not changes:
        return None
    by_sign = {sign: [c for c in changes if c.sign == sign] for sign in (1, -1, 0)}
    verbs = ((-1, "lower", min), (1, "raise", max))
    parts = [f"{_agree(len(by_sign[sign]), verb)} it" + _say_extreme(by_sign[sign], pick) for sign, verb, pick in verbs]
    parts += [f"{_agree(len(by_sign[0]), 'leave')} it open"]
    before = f"Of {len(changes)} {of_what} ({whose}All {mean_of(base, 'all'):.3f})"
    return f"{before}, {list_in_words(parts)}, {say_basis(changes)}"


def _agree(count: int, verb: str) -> str:
    return f"{count} {verb}{'s' if count == 1 else ''}"


def _say_extreme(changes: list[Lead], pick: Callable[..., Lead]) -> str:
    if not changes:
        return ""
    most = pick(changes, key=lambda c: c.by.mean)
    return f" (most: “{most.row.title}”, {format_difference(most.by)})"


def _follow_lines(experiment: Experiment, table: Table, rows: _Rows) -> list[str]:
    """Of each line of a sweep what other values do, beside the design's own.

    The highest of all beside the lowest would flatter the setting: of many values one is the highest by chance.
    """
    own = {row.name for row in experiment.rows if row.own}
    said = []
    for line, of_line in lines_of(table).items():
        base = next((row for row in of_line if row.name in own and "all" in row.metrics), None)
        if base is None:
            continue
        changes = [found for row in of_line if row is not base and (found := lead(row, base, "all")) is not None]
        values = f"other value{'s' if len(changes) != 1 else ''} of {experiment.axis}"
        sentence = _say_effects(base, changes, values, f"{line} at {base.x:g}: ")
        said += [sentence] if sentence is not None else []
    return said


def _compare_noise(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """Of each editor which noise lowers R-Gen the fastest, and which the slowest."""
    by_editor: dict[str, dict[str, Estimate]] = {}
    for of_line in slopes_of(table):
        kind, colon, editor = of_line.line.partition(": ")
        fall = of_line.groups.get("r_gen")
        if colon and fall is not None and fall.edits:
            by_editor.setdefault(editor, {})[kind] = fall
    said = []
    for editor, falls in by_editor.items():
        by_fall = sorted(falls, key=lambda k: falls[k].mean)  # of equals each is named once
        fastest, slowest = by_fall[0], by_fall[-1]
        text = f"R-Gen of {editor} changes by {format_points(falls[fastest])} points for each {STEP:g} % more {fastest}"
        text += f", and by {format_points(falls[slowest])} for {slowest}" if len(falls) > 1 else ""
        said.append(f"{text} ({format_basis(falls.values())})")
    return said


def _compare_probes(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """How far apart shares are with other probes of the same edits."""
    row = rows.get(OURS)
    if row is None or len(row.seeds) < 2:
        return []
    # A group of which a seed has no probe has not been asked as often.
    spans = {g: e.seeds for g, e in row.metrics.items() if g in _GROUPS and len(e.seeds) == len(row.seeds)}
    if not spans:
        return []
    widths = {group: max(shares) - min(shares) for group, shares in spans.items()}
    parts = [f"{NAMES[group]} by {width:.3f}" for group, width in widths.items()]
    of_what = f"Over {len(row.seeds)} seeds of probes for the same edits"
    return [f"{of_what} the shares of {row.title} differ at most: {list_in_words(parts)}"]


def _compare_checks(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    agreed = agreement_of(table)
    if not agreed.samples:
        return []
    said = [f"A check says what the probes say in {format_with_interval(agreed)} cases ({format_basis([agreed])})"]
    caught, wrongly = share_of_doubted(table, spoilt=True), share_of_doubted(table, spoilt=False)
    if caught.samples and wrongly.samples:
        sentences = f"{format_with_interval(caught)} spoilt sentences, and {format_with_interval(wrongly)} others"
        said.append(f"It doubts {sentences}")
    return said


def _compare_chains(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """The VLM's own chain, as it is and looked through, beside the person's."""
    said = []
    for way, text in (("mended", "looked through by a person"), ("raw", "as they are")):
        found = lead(rows[way], rows[OURS], "all") if way in rows and OURS in rows else None
        if found is not None:
            said.append(
                f"With the VLM's own reasons {text} All is {mean_of(found.row, 'all'):.3f}, with the person's "
                f"{mean_of(found.other, 'all'):.3f} ({say_difference(found, 'all')}, {say_basis([found])})"
            )
    return said


def _compare_walks(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """Two steps of a walk beside the design without one, by questions of one step and of two."""
    if not {"walk-2", OURS} <= rows.keys():
        return []
    found = {metric: lead(rows["walk-2"], rows[OURS], metric) for metric in ("port_2", "port_1", "all")}
    said = [
        f"{NAMES[metric]} from {mean_of(one.other, metric):.3f} to {mean_of(one.row, metric):.3f} "
        f"({say_difference(one, metric)}, {say_basis([one])})"
        for metric, one in found.items()
        if one is not None
    ]
    return [f"Two steps of a walk change {list_in_words(said)}"] if said else []


def _compare_tries(_: Experiment, table: Table, rows: _Rows) -> list[str]:
    """What tuning gains each editor, on the seeds that it was tuned on."""
    gains: dict[str, float] = {}
    for name in dict.fromkeys(row.line for row in table):
        first = rows.get(f"{name}-0")
        if first is None or "all" not in first.metrics:
            continue
        tries = [row for row in table if row.line == name and "all" in row.metrics]
        tries = [row for row in tries if are_asked_alike(row, first, "all")]
        if len(tries) > 1:
            best = max(tries, key=lambda row: mean_of(row, "all"))
            gains[first.title.partition(":")[0]] = mean_of(best, "all") - mean_of(first, "all")
    if not gains:
        return []
    most = sorted(gains, key=lambda title: -gains[title])
    parts = [f"{title} {gains[title]:+.3f}" for title in most]
    return [f"What the best of its settings adds to each editor's All, on the seeds of tuning: {', '.join(parts)}"]


_ANSWERS: dict[str, Callable[[Experiment, Table, _Rows], list[str]]] = {
    "main": _compare_editors,
    "stress": _compare_editors,
    "w": _follow_lines,
    "threshold": _follow_lines,
    "k": _follow_lines,
    "noise": _compare_noise,
    "probes": _compare_probes,
    "check": _compare_checks,
    "own": _compare_chains,
    "portability": _compare_walks,
    "tune": _compare_tries,
}
