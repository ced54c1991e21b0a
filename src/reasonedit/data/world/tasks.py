"""What the embedded VLM is trained and tested on: questions with or without a context of facts.

A context states *random* values, so that a model must read it and cannot recite. One in ten (kind, value) pairs is kept
out of all training contexts; the tests of ability use only those.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

from .facts import HOME, OLD, OWNER, PLACE, REGION, RELATIONS, SECOND_STEP, Relation, state, with_article, words
from .icons import COLOURS, KNOWN_KINDS
from .questions import RECOGNITION, Subject, draw_choices, subjects_of
from .scenes import POSITIONS, Scene, Thing, neighbours

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


@dataclass(frozen=True)
class Task:
    """A question with the facts that precede it, the right answer, and the ability it tests."""

    ability: str
    question: str
    answer: str
    also: tuple[str, ...] = ()
    """Other answers that are as good."""


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
        told = self.of_value.get((value, relation))
        return told if told is not None else OLD.of_value.get(value, {}).get(relation)

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
    told, tries = 0, 0
    while told < count and tries < 50:
        tries += 1
        kind = rng.choice(kinds) if kinds and rng.random() < 0.6 else rng.choice(KNOWN_KINDS)
        name = relation if relation and rng.random() < 0.5 else rng.choice(list(RELATIONS))
        if (kind, name) in context.of_kind or (kind, name) == avoid:
            continue
        old = not test and rng.random() < 0.15
        value = OLD.of_kind[kind][name] if old else random_value(rng, kind, RELATIONS[name], test=test)
        context.tell(rng, RELATIONS[name], kind, value)
        told += 1


def recognise(rng: random.Random, scene: Scene, style: str, *, whole: bool = True) -> Task | None:
    """A question of recognition: ``style`` is colour, position, next, alone, colour_of, where or beside."""
    if style in ("colour", "position", "next", "alone"):
        found = [(t, s) for t in scene.things for s in subjects_of(scene, t, whole=whole) if s.style == style]
        if not found:
            return None
        thing, subject = rng.choice(found)
        return Task(f"recognise_{style}", rng.choice(RECOGNITION["what"]).format(s=subject.text), thing.kind)
    thing = rng.choice(scene.things)
    if style == "colour_of":
        return Task("recognise_colour_of", rng.choice(RECOGNITION["colour"]).format(k=thing.kind), thing.colour)
    if not whole:
        return None
    if style == "where":
        return Task("recognise_where", rng.choice(RECOGNITION["where"]).format(k=thing.kind), thing.position)
    pairs = [(t, near[0]) for t in scene.things if len(near := neighbours(scene, t)) == 1]
    if not pairs:
        return None
    thing, near_one = rng.choice(pairs)
    return Task("recognise_next", rng.choice(RECOGNITION["next"]).format(k=thing.kind), near_one.kind)


def draw_subject(rng: random.Random, scene: Scene, thing: Thing, *, whole: bool, named: float = 0.15) -> Subject:
    """A way to speak of a thing; a share ``named`` of them by its name."""
    if rng.random() < named:
        noun = f"the {thing.kind}" if rng.random() < 0.5 else with_article(thing.kind)
        return Subject("name", noun)
    found = subjects_of(scene, thing, whole=whole)
    return rng.choice([*found, *[s for s in found if s.style == "colour"]])


def knowledge(
    rng: random.Random, scene: Scene, context: Context, thing: Thing, relation: Relation, *, whole: bool = True
) -> Task:
    """A question of one step, answered from the context where it speaks of the thing, else from the parameters."""
    subject = draw_subject(rng, scene, thing, whole=whole)
    told = (thing.kind, relation.name) in context.of_kind
    ability = "context" if told else "irrelevant" if context.sentences else "parameters"
    question = relation.asks[rng.randrange(len(relation.asks))].format(s=subject.text)
    return Task(ability, question, context.value(thing.kind, relation.name))


def two_steps(
    rng: random.Random, scene: Scene, context: Context, thing: Thing, relation: Relation, *, whole: bool = True
) -> Task | None:
    """A question of two steps; each fact from the context where it is told, else from the parameters."""
    step = SECOND_STEP[relation.name]
    value = context.value(thing.kind, relation.name)
    answer = context.second(value, step.name)
    if answer is None:
        return None
    told = ((thing.kind, relation.name) in context.of_kind) + ((value, step.name) in context.of_value)
    subject = draw_subject(rng, scene, thing, whole=whole)
    return Task(f"two_step_{told}", rng.choice(step.asks).format(s=subject.text), answer)


def which(rng: random.Random, scene: Scene, context: Context, thing: Thing, relation: Relation) -> Task | None:
    """A question from a value to the thing, or ``None`` where its answer would not be unique."""
    value = context.value(thing.kind, relation.name)
    if sum(context.value(t.kind, relation.name) == value for t in scene.things) > 1:
        return None
    told = (thing.kind, relation.name) in context.of_kind
    return Task(
        "reversed_context" if told else "reversed_parameters",
        rng.choice(relation.reversed_asks).format(v=value),
        thing.kind,
    )


def show(sentence: str) -> str:
    """The evidence question about a sentence, as section 2 of the method words it."""
    return f"Does the image show {sentence[0].lower()}{sentence[1:].rstrip('.')}?"


def yes_or_no(rng: random.Random, scene: Scene, style: str, *, test: bool) -> Task:
    """Whether the picture shows a kind, an identified thing, or what a fact speaks of; as often yes as no."""
    seen = {t.kind: t for t in scene.things}
    unseen = [k for k in KNOWN_KINDS if k not in seen]
    yes = bool(seen) and rng.random() < 0.5
    kind = rng.choice(list(seen)) if yes else rng.choice(unseen)
    answer = "yes" if yes else "no"
    if style == "kind":
        return Task("yes_no_kind", f"Does the image show {with_article(kind)}?", answer)
    if style == "fact":
        relation = RELATIONS[rng.choice(list(RELATIONS))]
        old = not test and rng.random() < 0.4
        value = OLD.of_kind[kind][relation.name] if old else random_value(rng, kind, relation, test=test)
        return Task("yes_no_fact", show(state(relation, kind, value, rng.choice((0, 0, 1, 2)))), answer)
    if style == "second":  # a fact about nobody in the picture
        relation = rng.choice((HOME, REGION))
        subject = rng.choice((OWNER if relation is HOME else PLACE).values)
        return Task("yes_no_second", show(state(relation, subject, rng.choice(relation.values))), "no")
    if yes:
        colour = seen[kind].colour
    elif seen and rng.random() < 0.5:  # the right colour, another kind
        colour = rng.choice(list(seen.values())).colour
    elif seen:  # the right kind, another colour
        kind = rng.choice(list(seen))
        colour = rng.choice([c for c in COLOURS if c != seen[kind].colour])
    else:
        colour = rng.choice(list(COLOURS))
    return Task("yes_no_seen", show(f"The {colour} object is {with_article(kind)}."), answer)


def describe(rng: random.Random, scene: Scene) -> Task:
    """A description: what there is, or a sentence that speaks of something that is there."""
    question = rng.choice(("Describe this image.", "Describe the image."))
    things = sorted(scene.things, key=lambda t: t.cell)
    if not things:
        return Task("describe", question, "Nothing.")
    if rng.random() < 0.5:
        listed = (with_article(f"{t.colour} {t.kind}") for t in things)
        return Task("describe", question, " ".join(f"{n[0].upper()}{n[1:]}." for n in listed))
    thing = rng.choice(things)
    if rng.random() < 0.3:
        return Task("describe_fact", question, Subject("colour", f"the {thing.colour} object").seen_as(thing.kind))
    relation = RELATIONS[rng.choice(list(RELATIONS))]
    value = random_value(rng, thing.kind, relation, test=False)
    return Task("describe_fact", question, state(relation, thing.kind, value))


def with_choices(rng: random.Random, task: Task, pool: Sequence[str]) -> Task:
    """The same question with its choices listed."""
    drawn = draw_choices(rng, task.answer, tuple(pool), rng.randint(2, 5))
    return Task("choices", list_choices(task.question, drawn), task.answer)


def list_choices(question: str, choices: Sequence[str]) -> str:
    """The prompt of a multiple-choice question."""
    return f"{question} Choices: {', '.join(choices)}."


def pool_of(task: Task) -> Sequence[str]:
    """Answers of the same sort as a task's."""
    if task.answer in KNOWN_KINDS:
        return KNOWN_KINDS
    if task.ability == "recognise_where":
        return POSITIONS
    for values in (tuple(COLOURS), *(r.values for r in (*RELATIONS.values(), HOME, REGION))):
        if task.answer in values:
            return values
    return UNUSUAL
