"""What a run did not measure, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from reasonedit.groups import GENERALITIES, LABELS, ProbeGroup

FEW = 20
"""Questions: a share of fewer says little."""

_LOCALITIES = ("loc", "hard_loc", "word_loc")
_MORE_ROWS = (
    "Add rows to your file that the model already answers rightly, about other pictures and with other questions than "
    "the edits': three for each edit are asked. If the model gets only few rows right, name with `edits:` fewer edits "
    "than it gets wrong, or take the rows from everyday questions about pictures of the same kind."
)
_PROBES = (
    "Have them made: `reasonedit build-probes --config RUN/config.yaml --out probes --writer … --painter …`. Then name "
    "the folder as `probes: probes` among the arguments of the run's source, and run again."
)


@dataclass(frozen=True)
class Gap:
    """Something that is not measured, or hardly.

    Attributes:
        label: The groups.
        why: Why, in sentences.
        how: What to do about it.
    """

    label: str
    why: str
    how: str


def find_gaps(figures: Mapping[str, Any]) -> list[Gap]:
    """Find what a run did not measure.

    Args:
        figures: The row of the edited model in ``metrics.json``.
    """
    gaps = [gap for gap in (_gap_of_locality(group, figures) for group in _LOCALITIES) if gap is not None]
    merged: dict[tuple[str, str], list[str]] = {}
    for gap in gaps:
        merged.setdefault((gap.why, gap.how), []).append(gap.label)
    found = [Gap(_join(labels), why, how) for (why, how), labels in merged.items()]
    missing = [group for group in GENERALITIES if not figures.get(f"{group}_samples")]
    if missing:
        why = "There are no such questions in the data: whether the edits hold for them is not known."
        found.append(Gap(_join([LABELS[group] for group in missing]), why, _PROBES))
    return found


def _gap_of_locality(group: str, figures: Mapping[str, Any]) -> Gap | None:
    samples = figures.get(f"{group}_samples") or 0
    not_made, wrong = (figures.get(f"{group}_{name}") or 0 for name in ("not_made", "wrong_before"))
    label = LABELS[group]
    if samples >= FEW:
        return None
    if samples:
        lost = [f"{wrong} more do not count, as the unedited model gets them wrong"] if wrong else []
        lost += [f"{not_made} could not be made"] if not_made else []
        aside = f" ({'; '.join(lost)})" if lost else ""
        asked = "1 question asks" if samples == 1 else f"{samples} questions ask"
        why = f"Only {asked} for it{aside}: its share is a rough one."
        return Gap(label, why, "More rows that the model already answers rightly make it surer.")
    if wrong:
        made = "The 1 question that was made is" if wrong == 1 else f"All {wrong} questions that were made are"
        why = f"{made} answered wrongly by the unedited model: what was wrong before cannot be kept right."
        return Gap(label, why, _MORE_ROWS)
    if not_made:
        why = (
            "The data have no question that the unedited model answers rightly and that shares neither picture nor "
            "question with an edit. So it is not known what the edits do to answers that were right."
        )
        return Gap(label, why, _MORE_ROWS)
    return Gap(label, "The source of the data makes no such questions.", _MORE_ROWS)


def define(group: str) -> str:
    """What a group asks, in a sentence for people."""
    return next(known.help for known in ProbeGroup if known == group)


def _join(labels: list[str]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
