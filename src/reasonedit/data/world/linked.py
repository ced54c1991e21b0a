"""Edits of the embedded world that lead to each other: portability in one step and in two."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from reasonedit.data.source import Probe
from reasonedit.types import Edit, Query

from .benchmark import EmbeddedWorld
from .kinds import ICONS
from .questions import ask_in_new_scene
from .relations import RELATIONS, SECOND_STEP

PORTABILITY_PER_EDIT = 3
"""Questions of portability for each edit that has any."""


class LinkedWorld(EmbeddedWorld):
    """The embedded world with edits of which one leads to another.

    Edits come in threes. The first says what a thing is and who owns it, or where it is found, of whom or which
    something else is true now than before ("A kettle belongs to the sailor."); the second, of another thing, says what
    that is ("An anchor belongs to the sailor. The sailor lives in the valley."). The third is as the first, but of its
    owner or place is true what the VLM knows.

    Portability asks a question of two steps in a new picture: Port-1 about the thing of a third edit ("Where does the
    owner of the red object live?"), where the VLM itself knows the second fact; Port-2 about that of a first edit,
    where only the second edit says it. All other probes are those of :class:`EmbeddedWorld`. The world has no facts for
    three steps and four.
    """

    def candidates(self) -> Iterator[Edit]:
        """Edits in threes, as far as the tables give such."""
        rng = random.Random(f"linked-{self.seed}")
        facts = [(kind, name) for kind in ICONS for name in SECOND_STEP if self._changes.is_new(kind, name)]
        known = [f for f in facts if self._changes.second_is_old(*f)]
        led = [f for f in facts if not self._changes.second_is_old(*f) and not self._changes.only_second_changed(*f)]
        rng.shuffle(known)
        rng.shuffle(led)
        count = 0
        while count < 20 * self.edits:
            for i, (kind, name) in enumerate(led):
                value = self.facts.of_kind[kind][name]
                others = [k for k in ICONS if k != kind and self.facts.of_kind[k][name] == value]
                if not others:
                    continue
                third = known[i % len(known)] if known else None
                threes = [(kind, name, "direct"), (rng.choice(others), name, "two_step")]
                for of_kind, of_name, form in [*threes, *([(*third, "direct")] if third else [])]:
                    edit = self._make_edit(rng, of_kind, of_name, form, count)
                    if edit is not None:
                        count += 1
                        yield edit
            if not count:
                return

    def _make_edit(self, rng: random.Random, kind: str, name: str, form: str, number: int) -> Edit | None:
        sample = ask_in_new_scene(rng, kind, RELATIONS[name], form, self.facts)
        if sample is None:
            return None
        edit_id = f"l{self.seed}-{number:04d}"
        self._samples[edit_id] = sample
        return Edit(sample.scene.render(), sample.question, sample.answer, list(sample.reasoning), None, edit_id)

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """All probes of the edits, those of each together, portability last."""
        of_edits: dict[str, list[Probe]] = {edit.id: [] for edit in edits}
        for probe in super().probes(edits, right):
            of_edits[probe.edit_id].append(probe)
        for edit in edits:
            group = self._portability(edit.id, [e.id for e in edits])
            if group:
                of_edits[edit.id] += self._ask(edit, group)
        return [probe for probes in of_edits.values() for probe in probes]

    def _portability(self, edit_id: str, edit_ids: Sequence[str]) -> str:
        """The group of an edit's portability; nothing where its second fact is said by itself, or by no edit."""
        sample = self._samples[edit_id]
        if sample.form != "direct":
            return ""
        value, step = sample.answer, SECOND_STEP[sample.relation].name
        if self._changes.second_is_old(sample.kind, sample.relation):
            return "port_1"
        return "port_2" if any((value, step) in self._samples[other].facts for other in edit_ids) else ""

    def _ask(self, edit: Edit, group: str) -> list[Probe]:
        rng = random.Random(f"portability-{self.probe_seed}-{edit.id}")
        sample = self._samples[edit.id]
        probes = []
        for i in range(PORTABILITY_PER_EDIT):
            asked = ask_in_new_scene(rng, sample.kind, RELATIONS[sample.relation], "two_step", self.facts)
            assert asked is not None
            query = Query(asked.scene.render(), asked.question, None, f"{edit.id}-{group}-{i}")
            self._samples[query.id] = asked
            probes.append(Probe(group, query, asked.answer, edit.id))
        return probes

    def expected_probes(self, edit_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Those of the world, and of portability what each edit allows."""
        expected: Mapping[str, dict[str, int]] = super().expected_probes(edit_ids)
        counts = {}
        for name, groups in expected.items():
            own = self._portability(name, edit_ids)
            portability = {group: PORTABILITY_PER_EDIT if group == own else 0 for group in ("port_1", "port_2")}
            counts[name] = {**groups, **portability}
        return counts
