"""What the embedded VLM is trained and tested on: questions with or without a context of facts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from .contexts import UNUSUAL, Context, random_value
from .facts import OLD
from .icons import COLOURS
from .kinds import KNOWN_KINDS
from .questions import RECOGNITION, Subject, draw_choices, subjects_of
from .relations import HOME, OWNER, PLACE, REGION, RELATIONS, SECOND_STEP, Relation, ask_which_has, state, with_article
from .scenes import POSITIONS, Scene, Thing, neighbour


@dataclass(frozen=True)
class Task:
    """A question with the facts that precede it, the right answer, and the ability it tests."""

    ability: str
    question: str
    answer: str
    also: tuple[str, ...] = ()
    """Other answers that are as good."""


def recognise(rng: random.Random, scene: Scene, style: str, *, whole: bool = True) -> Task | None:
    """A question of what is seen; ``style`` is colour, position, next, alone, colour_of, where or beside."""
    if style in ("colour", "position", "next", "alone"):
        pairs_of_style = [(t, s) for t in scene.things for s in subjects_of(scene, t, whole=whole) if s.style == style]
        if not pairs_of_style:
            return None
        thing, subject = rng.choice(pairs_of_style)
        return Task(f"recognise_{style}", rng.choice(RECOGNITION["what"]).format(s=subject.text), thing.kind)
    thing = rng.choice(scene.things)
    if style == "colour_of":
        return Task("recognise_colour_of", rng.choice(RECOGNITION["colour"]).format(k=thing.kind), thing.colour)
    if not whole:
        return None
    if style == "where":
        return Task("recognise_where", rng.choice(RECOGNITION["where"]).format(k=thing.kind), thing.position)
    pairs = [(t, near) for t in scene.things if (near := neighbour(scene, t)) is not None]
    if not pairs:
        return None
    thing, near_one = rng.choice(pairs)
    return Task("recognise_next", rng.choice(RECOGNITION["next"]).format(k=thing.kind), near_one.kind)


def draw_subject(rng: random.Random, scene: Scene, thing: Thing, *, whole: bool, named: float = 0.15) -> Subject:
    """A way to speak of a thing: by its name in a share ``named`` of all cases."""
    if rng.random() < named:
        noun = f"the {thing.kind}" if rng.random() < 0.5 else with_article(thing.kind)
        return Subject("name", noun)
    subjects = subjects_of(scene, thing, whole=whole)
    return rng.choice([*subjects, *[s for s in subjects if s.style == "colour"]])


def knowledge(
    rng: random.Random, scene: Scene, context: Context, thing: Thing, relation: Relation, *, whole: bool = True
) -> Task:
    """A question of one step, answered from the context where it speaks of the thing, else from the parameters."""
    subject = draw_subject(rng, scene, thing, whole=whole)
    in_context = (thing.kind, relation.name) in context.of_kind
    ability = "context" if in_context else "irrelevant" if context.sentences else "parameters"
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
    facts_told = ((thing.kind, relation.name) in context.of_kind) + ((value, step.name) in context.of_value)
    subject = draw_subject(rng, scene, thing, whole=whole)
    return Task(f"two_step_{facts_told}", rng.choice(step.asks).format(s=subject.text), answer)


def which(rng: random.Random, scene: Scene, context: Context, thing: Thing, relation: Relation) -> Task | None:
    """A question from a value to the thing, or ``None`` where its answer would not be unique."""
    value = context.value(thing.kind, relation.name)
    if sum(context.value(t.kind, relation.name) == value for t in scene.things) > 1:
        return None
    in_context = (thing.kind, relation.name) in context.of_kind
    return Task(
        "reversed_context" if in_context else "reversed_parameters",
        rng.choice(ask_which_has(relation, value)),
        thing.kind,
    )


def show(sentence: str) -> str:
    """The evidence question about a sentence, as section 2 of the method words it."""
    return f"Does the image show {sentence[0].lower()}{sentence[1:].rstrip('.')}?"


def yes_or_no(rng: random.Random, scene: Scene, style: str, *, test: bool) -> Task:
    """A yes/no question about a kind, an identified thing, or what a fact speaks of; as often yes as no."""
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
    things = sorted(scene.things, key=lambda t: t.place)
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
