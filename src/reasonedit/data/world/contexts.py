"""Facts that precede a question, for training and for the tests of ability.

They state *random* values, so that a model must read them and cannot recite. One in ten (kind, value) pairs is kept out
of all training contexts; the tests of ability use only those.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from .facts import OLD
from .kinds import KNOWN_KINDS
from .relations import RELATIONS, Relation, state, words

UNUSUAL: tuple[str, ...] = words(
    "amber apron arch barrel basket beach bridge bronze brush canyon carpet chalk circus cliff coral cotton "
    "crater dome dust engine feather fence ferry fog fountain gate ginger glacier granite hay honey ice jungle "
    "lagoon lantern lava linen marble maze meadow mill mint mirror needle nest oasis orchard paint parade pebble "
    "pepper pond porch quartz quilt reef ribbon roof rope salt sand satin shelf shore slate smoke snow soap spoon "
    "steam sugar swamp tar thread tile tin trench tunnel valley velvet wagon web well whistle yard zinc baking "
    "carving counting digging drawing farming guessing juggling knitting mixing painting polishing printing "
    "racing sewing skating spinning swimming teaching training walking weaving wrestling banker barber clown "
    "dancer driver dwarf ghost giant hunter judge knight lawyer mayor miner monk nurse pilot poet prince queen "
    "scout thief tiger witch wizard bakery bank cellar cinema dungeon factory gallery gym hall lab market museum "
    "office park prison shop stable theater zoo"
)
"""Values outside every table: facts about them can only be read."""


@dataclass
class Context:
    """Facts that precede a question, as sentences and as tables."""

    sentences: list[str] = field(default_factory=list)
    of_kind: dict[tuple[str, str], str] = field(default_factory=dict)
    of_value: dict[tuple[str, str], str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The sentences, joined by spaces."""
        return " ".join(self.sentences)

    def value(self, kind: str, relation: str) -> str:
        """What holds of a kind: what the context says, else the old table."""
        return self.of_kind.get((kind, relation), OLD.of_kind[kind][relation])

    def second(self, value: str, relation: str) -> str | None:
        """What holds of a value: what the context says, else the old table, else nothing."""
        from_context = self.of_value.get((value, relation))
        return from_context if from_context is not None else OLD.of_value.get(value, {}).get(relation)

    def tell(self, rng: random.Random, relation: Relation, subject: str, value: str) -> None:
        """Add one fact in a random wording (the canonical one more often than not)."""
        wording = 0 if rng.random() < 0.6 else rng.randrange(len(relation.statements))
        self.sentences.append(state(relation, subject, value, wording))
        (self.of_kind if relation.name in RELATIONS else self.of_value)[subject, relation.name] = value


def held_out(kind: str, value: str) -> bool:
    """Whether a pair is kept out of all training contexts (one in ten is; the same on every machine)."""
    return zlib.crc32(f"{kind} {value}".encode()) % 10 == 0


def random_value(rng: random.Random, kind: str, relation: Relation, *, test: bool) -> str:
    """A value for a context: in a test one never paired with this kind in training, else often an unusual word."""
    if not test and rng.random() < 0.3:
        return rng.choice(UNUSUAL)
    old = OLD.of_kind.get(kind, {}).get(relation.name)
    pool = [v for v in relation.values if held_out(kind, v) == test and v != old]
    return rng.choice(pool or [v for v in relation.values if v != old])


def add_facts(
    rng: random.Random,
    context: Context,
    count: int,
    kinds: Sequence[str],
    *,
    test: bool,
    avoid: tuple[str, str] | None = None,
    relation: str | None = None,
) -> None:
    """Tell ``count`` further facts: of ``kinds`` (what is visible) or of others, often of the same relation.

    Args:
        rng: Source of randomness.
        context: Changed in place.
        count: How many facts to add.
        kinds: Kinds to prefer.
        test: Whether only values never paired in training may be used.
        avoid: A (kind, relation) that must not be told.
        relation: A relation to prefer, so that distractors look like the fact that counts.
    """
    added, tries = 0, 0
    while added < count and tries < 50:
        tries += 1
        kind = rng.choice(kinds) if kinds and rng.random() < 0.6 else rng.choice(KNOWN_KINDS)
        name = relation if relation and rng.random() < 0.5 else rng.choice(list(RELATIONS))
        if (kind, name) in context.of_kind or (kind, name) == avoid:
            continue
        old = not test and rng.random() < 0.15
        value = OLD.of_kind[kind][name] if old else random_value(rng, kind, RELATIONS[name], test=test)
        context.tell(rng, RELATIONS[name], kind, value)
        added += 1
