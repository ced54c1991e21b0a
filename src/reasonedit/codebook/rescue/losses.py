"""Says what a repair would not bring back, or might wrongly let count."""

from __future__ import annotations

from collections.abc import Sequence

from .findings import Found, FoundEdit
from .history import Gap, History


def describe_losses(found: Found, history: History) -> list[str]:
    """A sentence on each loss.

    Args:
        found: What was found in the folder, its edits included.
        history: What is known of what happened.
    """
    losses, explained = list[str](), set[str]()
    for gap in history.gaps:
        if gap.records != 0:
            losses.append(_describe_gap(gap, history))
            explained |= gap.candidates
    for edit in found.edits:
        if edit.event is None:
            why = "its record cannot be read" if edit.changed is None else "somebody changed its record"
            losses.append(f"the {_describe_edit(edit)}: {why}")
        elif edit.doubt and edit.id not in explained:
            state = "counts" if edit.counts else "does not count"
            losses.append(f"the edit '{edit.id}' {state}, but {edit.doubt}")
    if found.lost_reference:
        losses.append(_describe_statistics(found))
    return losses


def _describe_statistics(found: Found) -> str:
    """What is lost with statistics."""
    edits = sum(event.edit is not None for event in found.events)
    keys = f" and the keys of {edits} edit{'s' * (edits != 1)}, which were made by them" if edits else ""
    return f"the statistics of {found.lost_reference}{keys}"


def _describe_gap(gap: Gap, history: History) -> str:
    """What lost records may have said."""
    possible = ["have been an edit"] * gap.may_have_edit
    for done, counts in (("undone", True), ("restored", False)):
        names = sorted(name for name in gap.candidates if history.edits[name].counts is counts)
        possible += [f"have {done} {_list_names(names)}"] * bool(names)
    many = "records" if gap.records is None else "a record" if gap.records == 1 else f"{gap.records} records"
    return f"{many} at byte {gap.start}" + (f": it may {' or '.join(possible)}" if possible else "")


def _list_names(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(f"'{name}'" for name in names[:8]) + more


def _describe_edit(edit: FoundEdit) -> str:
    """An edit whose record is lost, by what can be read of it."""
    fields = [
        f"{name} '{edit.guess[name]}'" for name in ("question", "answer", "author", "time") if edit.guess.get(name)
    ]
    return f"edit '{edit.id}'" + (f" ({', '.join(fields)})" if fields else "")
