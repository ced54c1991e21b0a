"""The page of one run: which edits took, which did not and why, and what was not measured."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from reasonedit.experiments.bootstrap import Estimate, summarise
from reasonedit.experiments.gallery import CAUSES, IGNORED, NOTHING, SWAYED, WRONG, cause_of
from reasonedit.experiments.tables import accuracy_of
from reasonedit.groups import GENERALITIES, LABELS, LOCALITIES, columns_of
from reasonedit.rounds import clusters_of, question_of

from .locality import define, find_gaps
from .render import render
from .run_data import Row, RunData
from .run_edits import FAILED, LOST, NOT_ASKED, NOT_NEEDED, TOOK, Outcome, describe_cause, judge_edits, last_probes
from .run_edits import pictured as describe_sentences
from .verdicts import EDITS

_IN_WORDS = {
    FAILED: "Asked again {when}, their question is still answered wrongly.",
    LOST: "Their question was answered rightly once they were written, and is answered wrongly {when}.",
    NOT_ASKED: "Nobody asked their question {when}, so it is not known whether they hold.",
    NOT_NEEDED: "Earlier edits had already put their question right when their turn came.",
    TOOK: "Asked again {when}, their question is answered rightly.",
}
_TITLES = {
    FAILED: "Edits that did not take",
    LOST: "Edits that were lost again",
    NOT_ASKED: "Edits that were not asked in the end",
    NOT_NEEDED: "Edits that were not needed",
    TOOK: "Edits that took",
}
_CARDS = {FAILED: 200, LOST: 200, NOT_ASKED: 24, NOT_NEEDED: 24, TOOK: 24}
"""How many are shown with their picture; all others are listed."""
_SAME = 0.0005
"""Shares that differ by no more look the same."""
_WITHOUT_FACTS = (
    ("right before, wrong now", "Questions about other things that the edits changed."),
    ("not put right", "Questions that an edit should have put right."),
)
"""What is wrong where the editor puts no facts before questions."""
_QUESTIONS = 12
"""Questions shown for each cause."""


def write_run_page(folder: Path, out: Path) -> Path:
    """Write the page of a run.

    Args:
        folder: Its results folder.
        out: The HTML file.

    Returns:
        The file.

    Raises:
        NotFoundError: The run has no results yet.
        UnavailableError: A file cannot be read or written.
    """
    run = RunData.read(folder)
    outcomes = judge_edits(run)
    edited = next((figures for name, figures in run.figures.items() if name != "unedited"), {})
    return render(
        "run.html.j2",
        out,
        name=folder.resolve().name,
        about=_about(run),
        summary=_summarise(run, outcomes),
        when=_when(run),
        finished=bool(run.figures),
        has_rows=bool(run.rows),
        shares=_shares(run, edited),
        few=EDITS,
        gaps=find_gaps(edited) if edited else [],
        edits=_sections(run, outcomes),
        questions=_questions(run),
        versions={name: str(version) for name, version in run.versions.items() if version is not None},
    )


def _about(run: RunData) -> dict[str, Any]:
    model = ((run.config.get("model") or {}).get("init_args") or {}).get("model")
    source = ((run.config.get("data") or {}).get("init_args") or {}).get("source")
    arguments = source.get("init_args") or {} if isinstance(source, Mapping) else {}
    kind = source.get("class_path", "").rpartition(".")[2] if isinstance(source, Mapping) else source
    where = next((str(arguments[name]) for name in ("path", "root", "folder") if arguments.get(name)), "")
    return {
        "model": model if isinstance(model, str) else "",
        "source": " ".join(filter(None, [str(kind or ""), where])),
        "seed": arguments.get("seed", run.versions.get("seed")),
    }


def _when(run: RunData) -> str:
    """When the edits' own questions were asked for the last time."""
    if ((run.config.get("data") or {}).get("init_args") or {}).get("alone"):
        return "after each edit alone"
    return "after all edits" if run.figures else "after the edits so far"


def _summarise(run: RunData, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    counts = Counter(outcome.status for outcome in outcomes)
    kept = [row["right"] for row in last_probes(run.rows) if row["group"] in LOCALITIES and row["right"] is not None]
    return {
        "edits": len(outcomes),
        "counts": [(status, counts[status]) for status in _TITLES if counts[status]],
        "asked": len(outcomes) - counts[NOT_ASKED],
        "took": counts[TOOK] + counts[NOT_NEEDED],
        "kept": len(kept),
        "harmed": kept.count(False),
        "is_few": len(outcomes) < EDITS,
    }


def _shares(run: RunData, edited: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for each group: what it asks, how many questions, the shares before and after, and the interval."""
    if not edited:
        return []
    unedited = run.figures.get("unedited", {})
    intervals = _intervals(run.rows)
    shares = []
    for group, label in columns_of(g for g in LABELS if edited.get(f"{g}_samples")).items():
        samples, exact = edited.get(f"{group}_samples") or 0, edited.get(f"{group}_exact_match")
        after, interval = edited.get(group), intervals.get(group)
        shares.append(
            {
                "label": label,
                "help": define(group),
                "samples": samples,
                "before": unedited.get(group),
                "after": after,
                "interval": interval if interval is not None and _is_of(interval, samples, after) else None,
                "exact": exact if exact is not None and after is not None and abs(exact - after) > _SAME else None,
            }
        )
    names = [LABELS[group] for group in GENERALITIES if edited.get(f"{group}_samples")]
    if edited.get("gen") is not None and len(names) > 1:
        gen = {"label": "Gen", "help": f"Harmonic mean of {', '.join(names[:-1])} and {names[-1]}", "samples": None}
        shares.append({**gen, "before": unedited.get("gen"), "after": edited["gen"], "interval": None, "exact": None})
    return shares


def _is_of(interval: Estimate, samples: int, share: float | None) -> bool:
    """Whether an interval is that of a share, and says something; the rows of erased edits are gone, figures stay."""
    is_same = interval.samples == samples and share is not None and abs(interval.mean - share) <= _SAME
    return is_same and interval.edits >= EDITS and math.isfinite(interval.low) and interval.low < interval.high


def _intervals(rows: Sequence[Row]) -> dict[str, Estimate]:
    """Intervals over edits, of the last answer to each probe."""
    counts: dict[str, dict[str, tuple[float, int]]] = defaultdict(dict)
    probes = last_probes(rows)
    for row, edit in zip(probes, clusters_of(probes), strict=True):
        if row["right"] is not None:
            right, total = counts[row["group"]].get(edit, (0.0, 0))
            counts[row["group"]][edit] = right + accuracy_of(row), total + 1
    return {group: summarise({"run": {0: of_group}})["run"][0] for group, of_group in counts.items()}


def _sections(run: RunData, outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The edits by what became of them, what went wrong first."""
    sections = []
    for status, title in _TITLES.items():
        mine = [outcome for outcome in outcomes if outcome.status == status]
        if mine:
            sections.append(
                {
                    "id": status.replace(" ", "-"),
                    "title": title,
                    "text": _IN_WORDS[status].format(when=_when(run)),
                    "count": len(mine),
                    "bad": status in (FAILED, LOST),
                    "cards": [_card(run, outcome) for outcome in mine[: _CARDS[status]]],
                    "listed": [{"id": o.id, **_said(o)} for o in mine[_CARDS[status] :]],
                }
            )
    return sections


def _card(run: RunData, outcome: Outcome) -> dict[str, Any]:
    return {
        "id": outcome.id,
        **_said(outcome),
        **describe_sentences(run, outcome.edit),
        "choices": outcome.edit["choices"],
        "facts": _facts(outcome.asked) if outcome.asked is not None else [],
        "left_out": list(outcome.asked["left_out"] or ()) if outcome.asked is not None else [],
        "was_asked": outcome.asked is not None,
        "holds": outcome.holds,
        "advice": outcome.advice,
    }


def _said(outcome: Outcome) -> dict[str, Any]:
    return {
        "question": outcome.edit["question"],
        "before": outcome.before,
        "after": None if outcome.asked is None else outcome.asked["answer"],
        "answer": outcome.edit["answer"],
        "right": outcome.asked is not None and bool(outcome.asked["right"]),
        "why": outcome.why,
    }


def _facts(row: Row) -> list[dict[str, Any]]:
    facts = zip(row["facts"] or (), row["distances"] or (), row["fact_edits"] or (), strict=False)
    return [{"text": text, "distance": distance, "own": edit == row["edit"]} for text, distance, edit in facts]


def _questions(run: RunData) -> list[dict[str, Any]]:
    """Questions other than the edits' own that are answered wrongly, by cause; what was made worse comes first."""
    fetches = any(row["nearest"] is not None or row["facts"] for row in run.rows)
    by_cause: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(last_probes(run.rows), key=lambda row: row["id"] not in run.questions):
        cause = cause_of(row)
        if cause is not None and row["group"] != "rel" and row["right"] is not None:
            by_cause.setdefault((cause, CAUSES[cause]) if fetches else _WITHOUT_FACTS[cause != SWAYED], []).append(row)
    order = [*((cause, CAUSES[cause]) for cause in (SWAYED, IGNORED, WRONG, NOTHING)), *_WITHOUT_FACTS]
    sections = []
    for cause, text in (known for known in order if known in by_cause):
        rows = by_cause[cause, text]
        groups = Counter(row["group"] for row in rows)
        once: dict[tuple[Any, ...], Row] = {}
        for row in rows:
            once.setdefault(_shown_as(run, row), row)
        sections.append(
            {
                "cause": cause,
                "text": text,
                "count": len(rows),
                "groups": [(label, groups[group]) for group, label in LABELS.items() if groups[group]],
                "different": len(once),
                "shown": [_question(run, row, cause) for row in [*once.values()][:_QUESTIONS]],
            }
        )
    return sections


def _shown_as(run: RunData, row: Row) -> tuple[Any, ...]:
    """The same for answers that look alike: those to a question that is asked for several edits."""
    asked = question_of(row) if row["group"] in LOCALITIES else row["id"]
    return asked, run.questions.get(row["id"], {}).get("picture"), row["answer"]


def _question(run: RunData, row: Row, cause: str) -> dict[str, Any]:
    kept = run.questions.get(row["id"], {})
    return {
        **row,
        "question": kept.get("question") or row.get("question") or row["prompt"],
        "image": run.picture(kept.get("picture") or ""),
        "facts": _facts(row),
        "why": describe_cause(row, cause) if cause == NOTHING else "",
    }
