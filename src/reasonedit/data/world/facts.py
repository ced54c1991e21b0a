"""Tables of facts: the old one, which the VLM learnt, and a new one for each seed."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .kinds import KNOWN_KINDS, NOVEL_KINDS
from .new_values import new_values
from .relations import HOME, REGION, RELATIONS, SECOND_STEP, Relation


@dataclass(frozen=True)
class FactTable:
    """All facts at one time: ``of_kind[kind][relation]`` and ``of_value[value][relation]``."""

    of_kind: Mapping[str, Mapping[str, str]]
    of_value: Mapping[str, Mapping[str, str]]

    def follow(self, kind: str, relation: str, *, two_steps: bool = False) -> str:
        """The value a kind has, or, with ``two_steps``, what is known of that value."""
        value = self.of_kind[kind][relation]
        return self.of_value[value][SECOND_STEP[relation].name] if two_steps else value


_OLD = """
kettle    boiling    steel   kitchen  cook
anchor    sailing    iron    harbor   sailor
umbrella  shelter    cloth   street   traveler
key       locking    brass   castle   guard
fish      eating     flesh   river    fisher
mushroom  eating     flesh   forest   cook
drum      music      leather stage    musician
ladder    climbing   wood    workshop builder
bell      calling    brass   church   priest
cup       drinking   clay    kitchen  child
hat       dressing   cloth   bedroom  traveler
boat      sailing    wood    harbor   fisher
tree      climbing   wood    forest   gardener
star      light      gas     sky      astronaut
moon      light      rock    sky      astronaut
heart     decoration flesh   hospital doctor
flower    decoration fiber   garden   gardener
lamp      light      glass   library  student
book      reading    paper   library  teacher
clock     calling    steel   school   teacher
hammer    building   steel   workshop builder
sword     fighting   iron    castle   soldier
bottle    drinking   glass   hospital doctor
candle    light      wax     church   priest
crown     dressing   gold    palace   king
guitar    music      wood    stage    musician
leaf      decoration fiber   forest   gardener
chair     resting    wood    school   student
flag      calling    cloth   castle   soldier
kite      decoration paper   sky      child
tent      resting    cloth   desert   traveler
wheel     travel     rubber  street   farmer
envelope  sending    paper   station  mailman
apple     eating     flesh   garden   farmer
cactus    decoration fiber   desert   farmer
rocket    travel     steel   sky      astronaut
"""
_OLD_HOMES = """
cook hotel, sailor coast, traveler hotel, guard tower, fisher coast, musician city, builder city, priest village,
child village, soldier tower, gardener valley, astronaut city, doctor city, teacher village, king tower, farmer farm,
student hotel, mailman village
"""
_OLD_REGIONS = """
kitchen east, harbor south, street west, castle north, river east, forest north, stage west, workshop west, church east,
bedroom west, sky north, hospital south, garden south, library east, school west, palace north, desert south,
station east
"""


def _pairs(text: str, relation: Relation) -> dict[str, dict[str, str]]:
    split = (entry.split() for entry in text.replace("\n", " ").split(","))
    return {subject: {relation.name: value} for subject, value in split}


def _old_table() -> FactTable:
    of_kind = {}
    for line in _OLD.strip().splitlines():
        kind, *values = line.split()
        of_kind[kind] = dict(zip(RELATIONS, values, strict=True))
    return FactTable(of_kind, {**_pairs(_OLD_HOMES, HOME), **_pairs(_OLD_REGIONS, REGION)})


OLD: FactTable = _old_table()
"""What is commonly true, and what the embedded VLM holds in its parameters."""


def new_table(seed: int, changed: float = 1 / 3) -> FactTable:
    """The world after it moved on: some facts differ from :data:`OLD`, and the novel kinds are there.

    Args:
        seed: Seed of the world.
        changed: Share of the old facts (of kinds and of values) that get another value.
    """
    rng = random.Random(f"facts-{seed}")

    def moved(values: Sequence[str], old: str) -> str:
        return rng.choice([v for v in values if v != old]) if rng.random() < changed else old

    of_kind = {
        kind: {name: moved(new_values(kind, r), OLD.of_kind[kind][name]) for name, r in RELATIONS.items()}
        for kind in KNOWN_KINDS
    }
    of_kind |= {kind: {name: rng.choice(new_values(kind, r)) for name, r in RELATIONS.items()} for kind in NOVEL_KINDS}
    second = {r.name: r.values for r in SECOND_STEP.values()}
    of_value = {
        subject: {name: moved(second[name], old) for name, old in facts.items()}
        for subject, facts in OLD.of_value.items()
    }
    return FactTable(of_kind, of_value)
