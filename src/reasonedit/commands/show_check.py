"""What a check says of an edit, printed."""

from __future__ import annotations

from rich import box
from rich.markup import escape
from rich.table import Table

from reasonedit.checking import EditCheck
from reasonedit.evidence import Evidence, WindowScore, area
from reasonedit.safe_text import to_safe_text

from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True)
_ORIGINS = {"edit": "its own", "paraphrase": "in other words", "given": "yours"}
_TRIALS = {"redrawn": "redrawn, {note}", "other": "another", "elsewhere": "another picture"}


def show_check(checked: EditCheck) -> None:
    """Print what an edit would do: the answers before and after, where its sentences are seen, and the verdict."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("question", "", "before", "after"):
        table.add_column(name, overflow="fold", no_wrap=name == "question")
    for change in [*checked.changes, *checked.trials]:
        origin = _ORIGINS.get(change.origin) or _TRIALS[change.origin].format(note=change.note)
        texts = [origin, change.query.question, change.before.text, change.after.text]
        table.add_row(*map(escape, map(to_safe_text, texts)), style="bold" if change.changed else "dim")
    Screen(highlight=False).print(table)
    for given, evidence in zip(checked.edit.given, checked.evidence, strict=True):
        _show_evidence(evidence, given=bool(given))
    for other in checked.contradicts:
        _console.say(
            f"warning: this contradicts '{other.answer}' (edit {other.id}): the same question about the same picture"
        )
    for warning in checked.warnings:
        _console.tell(f"warning: {warning}")
    show_verdict(checked)
    if checked.entries:
        _console.tell(f"{checked.keys} of {len(checked.entries)} keys would be new. Nothing was written.")


def show_verdict(checked: EditCheck) -> None:
    """Print the verdict of a check, what it rests on, what would help, and which sentences may be wrong."""
    _console.say(f"check: {checked.verdict}")
    for sentence in checked.finding.because:
        _console.tell(f"  {sentence}")
    for doubt in checked.doubts:
        _console.tell(f"  may be wrong: '{doubt.text}'  {doubt.says}")
    for sentence in checked.finding.advice:
        _console.tell(f"  what would help: {sentence}")


def _show_evidence(evidence: Evidence, *, given: bool) -> None:
    """A sentence, and how sure the VLM is of it in each of the smallest windows, as they lie in the picture."""
    kept = "; ".join(" ".join(f"{share:.2f}" for share in box) for box in evidence.boxes)
    where = "where you say" if given else f"at {kept}" if kept else "nowhere in particular"
    _console.say(f"{evidence.sentence}  (seen {where})")
    for row in _rows(evidence.windows):
        _console.say("    " + "  ".join("    -" if w.p_yes is None else f"{w.p_yes:5.3f}" for w in row))


def _rows(windows: list[WindowScore]) -> list[list[WindowScore]]:
    """The smallest windows, row by row."""
    least = min((area(window.box) for window in windows), default=0.0)
    smallest = [window for window in windows if area(window.box) <= least * (1 + 1e-6)]
    tops = sorted({round(window.box[1], 6) for window in smallest})
    return [[w for w in smallest if round(w.box[1], 6) == top] for top in tops]
