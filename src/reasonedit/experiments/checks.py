"""How often the checks of edits are right: each verdict beside what the probes say, which the check has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L

import reasonedit.callbacks as cb
from reasonedit.checking import EditCheck, Verdict
from reasonedit.data.source import EditSource
from reasonedit.groups import GENERALITIES, LOCALITIES, ProbeGroup
from reasonedit.rounds import final_probes

from .cells import MakeCallbacks
from .lab import Lab
from .noise import NoisyReasoning

HOLDS, HERE_ONLY, HARMS, FAILS = "holds", "holds here only", "harms", "does not take"
OUTCOMES = (HOLDS, HERE_ONLY, HARMS, FAILS)
"""What may become of an edit, by its check and by its probes."""
_SAID = {Verdict.HOLDS.key: HOLDS, Verdict.HERE_ONLY.key: HERE_ONLY, Verdict.HARMS.key: HARMS}


def checked(make: MakeCallbacks, when: str = "end") -> MakeCallbacks:
    """An editor whose edits are checked."""

    def both(lab: Lab) -> list[L.Callback]:
        return [*make(lab), cb.EditChecks(when)]

    return both


def measure_checks(
    checks: Mapping[str, EditCheck], rows: Sequence[Mapping[str, Any]], source: EditSource
) -> list[dict[str, Any]]:
    """What each check said, and what the probes say of the same edit.

    Args:
        checks: The checks by the edits' ids.
        rows: All predictions of the run.
        source: Its source: it knows which sentences were spoilt, if any were.

    Returns:
        For each edit what a file can hold: ``verdict``, ``trials``, ``sentences`` (whether each is spoilt, and why it
        is doubted), and by the probes ``asked`` (how often its own question was asked in the end), ``rel`` (whether it
        was answered rightly; ``None`` where it was not asked), ``groups`` (right answers and probes by group),
        ``fetched`` (whether its facts stood before its own question) and ``harmed`` (wrong answers of locality probes
        and of other edits before which its facts stood).
    """
    probes = final_probes(rows)
    spoilt = source.spoilt if isinstance(source, NoisyReasoning) else {}
    measured = []
    for edit_id, check in checks.items():
        facts = set(check.edit.facts)  # predictions name only one of several edits that say the same
        own = [row for row in probes if row["edit"] == edit_id]
        of_others = [row for row in probes if row["group"] == ProbeGroup.RELIABILITY and row["edit"] != edit_id]
        local = [row for row in own if row["group"] in LOCALITIES]
        asked = [row for row in own if row["group"] == ProbeGroup.RELIABILITY]
        doubts = {doubt.text: doubt.why for doubt in check.doubts}
        flags = spoilt.get(edit_id) or [False] * len(check.edit.reasoning)
        measured.append(
            {
                "edit": edit_id,
                "verdict": check.verdict.key,
                "trials": [_describe_trial(check, i) for i in range(len(check.trials))],
                "sentences": [
                    [flag, doubts.get(text, "")] for flag, text in zip(flags, check.edit.reasoning, strict=True)
                ],
                "asked": len(asked),
                "rel": all(row["right"] for row in asked) if asked else None,
                "fetched": any(not facts.isdisjoint(row["facts"]) for row in asked),
                "groups": {g: _count([row for row in own if row["group"] == g]) for g in GENERALITIES},
                "harmed": sum(not row["right"] and not facts.isdisjoint(row["facts"]) for row in [*local, *of_others]),
                "local": len(local),
            }
        )
    return measured


def said_of(measured: Mapping[str, Any]) -> str:
    """The outcome that a check foretells."""
    return _SAID.get(measured["verdict"], FAILS)


def was_asked(measured: Mapping[str, Any]) -> bool:
    """Whether an edit's own question was asked in the end.

    Results of earlier versions do not say it, and call the answer right where there was none.
    """
    if "asked" in measured:
        return bool(measured["asked"])
    probes = sum(of_group[1] for of_group in measured["groups"].values()) + measured["local"]
    return not measured["rel"] or measured["fetched"] or bool(probes)


def outcome_of(measured: Mapping[str, Any]) -> str | None:
    """What became of an edit by its probes; ``None`` where its own question was not asked in the end.

    It **does not take** where its own question is answered wrongly in the end. It **harms** where a wrong answer to one
    of its locality probes, or to another edit's own question, had its facts before it. It **holds here only** where
    half or fewer of its probes of generality are right (T-Gen, I-Gen, R-Gen and CoE-Gen together).
    """
    if not was_asked(measured):
        return None
    if not measured["rel"]:
        return FAILS
    if measured["harmed"]:
        return HARMS
    right, asked = (sum(column) for column in zip(*measured["groups"].values(), strict=True))
    return HOLDS if 2 * right > asked or not asked else HERE_ONLY


def _describe_trial(check: EditCheck, number: int) -> dict[str, Any]:
    change = check.trials[number]
    return {
        "origin": change.origin,
        "changed": change.changed,
        "right": change.is_right if change.right else None,
        "harmed": change.is_harmed,
        "shown": change.shown,
        "fetched": any(hit.fact in check.edit.facts for hit in change.after.hits),
        "as_edit": change.after.text == check.changes[0].after.text,
    }


def _count(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    return [sum(float(row["accuracy"]) for row in rows), len(rows)]
