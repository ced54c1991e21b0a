"""How many probes there should be, and what became of those that are not asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from reasonedit.groups import LABELS

from .source import EditSource, ExpectsProbes, Probe


@dataclass(frozen=True)
class ProbeCount:
    """The probes of a group.

    Attributes:
        expected: How many there should be.
        not_made: How many of these the source could not make.
        wrong_before: How many were made and do not count, as they ask what stays right and the unedited model got them
            wrong.
    """

    expected: int = 0
    not_made: int = 0
    wrong_before: int = 0

    def __add__(self, other: ProbeCount) -> ProbeCount:
        """Both together."""
        return ProbeCount(
            self.expected + other.expected, self.not_made + other.not_made, self.wrong_before + other.wrong_before
        )


def count_probes(
    source: EditSource, edit_ids: Sequence[str], made: Sequence[Probe], kept: Sequence[Probe]
) -> dict[str, ProbeCount]:
    """Count by group.

    Each edit should have as many probes as the source says; where it does not say, one of each group of which any edit
    has some.

    Args:
        source: What made them.
        edit_ids: The edits that are probed.
        made: All of their probes.
        kept: Those that are asked of the edited model.
    """
    said = source.expected_probes(edit_ids) if isinstance(source, ExpectsProbes) else {}
    by_edit = Counter((probe.group, probe.edit_id) for probe in made)
    asked = Counter(probe.group for probe in kept)
    groups = {probe.group for probe in made} | {group for of_edit in said.values() for group in of_edit}
    counts = {}
    for group in (g for g in LABELS if g in groups):
        expected = not_made = total = 0
        for name in edit_ids:
            there, wanted = by_edit[group, name], said.get(name, {}).get(group, 1)
            expected, not_made = expected + max(wanted, there), not_made + max(0, wanted - there)
            total += there
        counts[group] = ProbeCount(expected, not_made, total - asked[group])
    return counts


def describe_counts(parts: Sequence[Mapping[str, ProbeCount]]) -> list[str]:
    """In one sentence for each group what is not asked; of several seeds together, then seed by seed.

    >>> describe_counts([{"r_gen": ProbeCount(120, 9)}, {"r_gen": ProbeCount(120, 6)}])
    ['R-Gen: 15 of 240 probes could not be made (9 / 6 by seed).']

    Args:
        parts: For each seed the counts by group.
    """
    sentences = []
    for group, label in LABELS.items():
        of_group = [part.get(group, ProbeCount()) for part in parts]
        total = sum(of_group, ProbeCount())
        for values, what in (
            ([count.not_made for count in of_group], "could not be made"),
            ([count.wrong_before for count in of_group], "are not counted, as the unedited model gets them wrong"),
        ):
            if sum(values):
                each = f" ({' / '.join(map(str, values))} by seed)" if len(values) > 1 else ""
                sentences.append(f"{label}: {sum(values)} of {total.expected} probes {what}{each}.")
    return sentences
