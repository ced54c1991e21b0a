"""What became of each edit of a run, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from reasonedit.experiments.gallery import IGNORED, NOTHING, WRONG, cause_of
from reasonedit.groups import LABELS
from reasonedit.rounds import final_probes, have_rounds

from .run_data import Row, RunData

TOOK, NOT_NEEDED, NOT_ASKED = "took", "was not needed", "not asked in the end"
FAILED, LOST = "did not take", "was lost again"

_BOX = "Give a box for what each sentence speaks of."
_WORDS = "Say it in other words, as plainly as the question asks it."
_FACT = "Add the step that leads from what is seen to the answer, as a sentence of its own."
_OTHERS = "Look at the other edits whose facts came: undo or correct those that are wrong."
_ADVICE = {NOTHING: f"{_BOX} {_WORDS}", WRONG: f"{_BOX} {_OTHERS}", IGNORED: f"{_WORDS} {_FACT}"}


@dataclass(frozen=True)
class Outcome:
    """What became of an edit.

    Attributes:
        id: Its id.
        status: In two or three words.
        edit: What is known of it.
        asked: Its question, asked for the last time; ``None`` where it was asked only once.
        before: What the unedited model answered; ``None`` where that is not known.
        why: Why it is so, in sentences.
        advice: What may help, in sentences.
        holds: For each group of its probes, by label, how many were answered rightly, and of how many.
    """

    id: str
    status: str
    edit: Row
    asked: Row | None
    before: str | None
    why: str
    advice: str = ""
    holds: dict[str, tuple[int, int]] = field(default_factory=dict)


def last_probes(rows: Sequence[Row]) -> list[Row]:
    """Each probe as it was answered the last time."""
    probes = [row for row in rows if row["phase"] == "probe"]
    if have_rounds(probes):
        return final_probes(probes)
    return list({(row["edit"], row["group"], row["id"]): row for row in probes}.values())


def judge_edits(run: RunData) -> list[Outcome]:
    """What became of each edit, in their order.

    An edit took if its own question, asked again after all edits, is answered rightly.
    """
    turns = {row["edit"]: row for row in run.rows if row["phase"] == "edit"}
    checks = {row["edit"]: row for row in run.rows if row["phase"] == "check"}
    probes: dict[str, list[Row]] = defaultdict(list)
    for row in last_probes(run.rows):
        probes[row["edit"]].append(row)
    return [
        _judge(name, edit, turns.get(name), checks.get(name), probes.get(name, [])) for name, edit in run.edits.items()
    ]


def _judge(name: str, edit: Row, turn: Row | None, check: Row | None, probes: Sequence[Row]) -> Outcome:
    own = next((row for row in probes if row["group"] == "rel"), None)
    before = own["before"] if own is not None else None
    holds = _count(probes)
    if own is None or own["right"] is None:
        return _judge_unasked(name, edit, check, before, holds)
    was_right = turn is not None and turn["right"]
    if own["right"]:
        why = "When its turn came, earlier edits had already put its question right: nothing was written for it."
        return Outcome(
            name, NOT_NEEDED if was_right else TOOK, edit, own, before, why if was_right else "", holds=holds
        )
    why, advice = _explain(own)
    if was_right:
        why = f"When its turn came, earlier edits had put its question right, so nothing was written for it. {why}"
    elif check is not None and check["right"]:
        why = f"Right after it was written its question was answered rightly; later edits changed that. {why}"
        return Outcome(name, LOST, edit, own, before, why, advice, holds)
    return Outcome(name, FAILED, edit, own, before, why, advice, holds)


def _judge_unasked(
    name: str, edit: Row, check: Row | None, before: str | None, holds: dict[str, tuple[int, int]]
) -> Outcome:
    """An edit whose own question was not asked after all edits: what came of it right after its turn, if it was."""
    if check is None or check["right"] is None:
        why = "Its question was not asked again after it was written."
        return Outcome(name, NOT_ASKED, edit, None, before, why, holds=holds)
    why = f"Right after its turn its question was answered {'rightly' if check['right'] else 'wrongly'}."
    because, advice = _explain(check)
    return Outcome(name, NOT_ASKED, edit, check, before, f"{why} {because}".strip(), advice, holds)


def _explain(row: Row) -> tuple[str, str]:
    """Why a question is answered wrongly, and what may help."""
    cause = cause_of({**row, "phase": "probe", "group": "rel"})
    if cause is None:
        return "", ""
    return describe_cause(row, cause), _ADVICE.get(cause, "")


def describe_cause(row: Row, cause: str) -> str:
    """In sentences what came of a question that was answered wrongly."""
    if cause == NOTHING:
        return _describe_gate(row) if row["nearest"] is not None else "The edited model still answers otherwise."
    if cause == WRONG:
        return "Facts came for it, but none of them is this edit's."
    if cause == IGNORED:
        return "A fact of the edit stood before the question, and the model did not follow it."
    return "A fact about something else stood before the question and changed the answer."


def _describe_gate(row: Row) -> str:
    nearest, gate = row["nearest"], row["threshold"]
    if row["left_out"]:
        return "Facts came for it, and all were left out again: the picture does not show what they speak of."
    if gate is None or nearest == float("inf"):
        return "No fact came for it."
    if nearest > gate:
        return f"No fact came for it: the nearest key is {nearest:.2f} away, and only what is within {gate:.2f} counts."
    return f"No fact came for it, though the nearest key is {nearest:.2f} away and {gate:.2f} would do."


def _count(probes: Sequence[Row]) -> dict[str, tuple[int, int]]:
    counts: dict[str, tuple[int, int]] = {}
    for group, label in LABELS.items():
        of_group = [row for row in probes if row["group"] == group and row["right"] is not None]
        if of_group and group != "rel":
            counts[label] = sum(row["right"] for row in of_group), len(of_group)
    return counts


def pictured(run: RunData, edit: Row) -> dict[str, Any]:
    """An edit as a card shows it: its picture, and its sentences with the windows that they speak of."""
    sentences = []
    for i, text in enumerate(edit["reasoning"]):
        boxes, given = _at(edit["boxes"], i, []), _at(edit["given"], i, False)
        note = "marked by a person" if given and boxes else ""
        if _at(edit["crops"], i, 0):
            note = "shown by a picture of its own"
        elif not boxes and i < len(edit["guessed"]):  # of what was not written nothing was sought
            note = "no part of the picture was found for it"
        elif _at(edit["guessed"], i, False):
            note = "a guess: the model affirms it of no part of the picture"
        sentences.append({"text": text, "boxes": boxes, "note": note})
    return {"image": run.picture(edit["picture"]), "sentences": sentences}


def _at(values: Sequence[Any], i: int, default: Any) -> Any:
    return values[i] if i < len(values) else default
