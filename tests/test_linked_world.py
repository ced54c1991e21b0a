"""Edits of the embedded world that lead to each other."""

from itertools import islice

import pytest

from reasonedit.data.probe_counts import count_probes
from reasonedit.data.world.facts import OLD
from reasonedit.data.world.linked import PORTABILITY_PER_EDIT, LinkedWorld
from reasonedit.data.world.relations import SECOND_STEP


@pytest.mark.parametrize("seed", [150, 151])
def test_portability_follows_from_the_edits_alone(seed):
    world = LinkedWorld(seed=seed, edits=30)
    edits = list(islice(world.candidates(), 30))
    assert len({edit.id for edit in edits}) == 30
    told = {}  # what each edit says, by the table it is drawn from
    for edit in edits:
        told[edit.id] = set(world.sample(edit.id).facts)
    probes = world.probes(edits)
    by_group = {group: [p for p in probes if p.group == group] for group in ("port_1", "port_2")}
    assert all(len(group) >= 3 * PORTABILITY_PER_EDIT for group in by_group.values())
    for group, of_group in by_group.items():
        for probe in of_group:
            sample, own = world.sample(probe.query.id), world.sample(probe.edit_id)
            assert sample.form == "two_step"
            assert sample.scene != own.scene
            first, second = sample.facts
            assert first in told[probe.edit_id]
            assert second not in told[probe.edit_id]
            others = [name for name, facts in told.items() if second in facts]
            value, step = second
            is_old = OLD.of_value[value][step] == world.facts.of_value[value][step]
            assert (group == "port_1") == is_old
            assert is_old or others
            assert probe.answer == world.facts.follow(sample.kind, sample.relation, two_steps=True)
            assert SECOND_STEP[sample.relation].name == step
    counts = world.expected_probes([edit.id for edit in edits])
    for group in by_group:
        assert sum(c[group] for c in counts.values()) == len(by_group[group])
    counted = count_probes(world, [edit.id for edit in edits], probes, probes)
    assert [counted[group].not_made for group in by_group] == [0, 0]


def test_edits_and_probes_are_the_same_again():
    def made():
        world = LinkedWorld(seed=152, edits=9)
        edits = list(islice(world.candidates(), 9))
        return [e.question for e in edits], [(p.group, p.query.question, p.answer) for p in world.probes(edits)]

    assert made() == made()
