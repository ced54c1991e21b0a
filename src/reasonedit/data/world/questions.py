"""Questions about scenes, with the answer and the reasoning behind it."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from .facts import FactTable
from .relations import RELATIONS, SECOND_STEP, Relation, ask_which_has, state, with_article
from .scenes import Scene, Thing, neighbour, random_scene

_WHERE = {"center": "in the center", "left": "on the left", "right": "on the right"}

RECOGNITION: dict[str, tuple[str, ...]] = {
    "what": ("What is {s}?", "What do you see as {s}?", "Name {s}."),
    "colour": ("What color is the {k}?", "Which color does the {k} have?", "Name the color of the {k}."),
    "where": (
        "Where in the image is the {k}?",
        "In which part of the image is the {k}?",
        "What is the position of the {k} in the image?",
    ),
    "next": ("What is next to the {k}?", "Which object is next to the {k}?", "Name the object next to the {k}."),
}


@dataclass(frozen=True)
class Subject:
    """How a question speaks of a thing: ``style`` (colour, position, next, alone or name) and the words."""

    style: str
    text: str

    def seen_as(self, kind: str) -> str:
        """The sentence that says what the subject is."""
        if self.style == "name":
            return f"The image shows {with_article(kind)}."
        return f"{self.text[0].upper()}{self.text[1:]} is {with_article(kind)}."


@dataclass(frozen=True)
class WorldSample:
    """One question about one scene.

    Attributes:
        scene: What the picture shows.
        question: The question.
        answer: The right answer, by the table the sample was made from.
        reasoning: One sentence per step: what is seen, then what is known.
        kind: The kind of object that the question turns on.
        form: ``recognition``, ``direct``, ``two_step`` or ``reversed``.
        relation: Name of the relation asked about (empty for recognition).
        subject: How the question speaks of the object (``None`` for reversed questions).
        pool: Answers of the same sort, from which choices are drawn.
        wording: Index of the phrasing used.
        facts: The facts that the answer follows from: values by (kind or value, relation).
    """

    scene: Scene
    question: str
    answer: str
    reasoning: tuple[str, ...]
    kind: str
    form: str
    relation: str = ""
    subject: Subject | None = None
    pool: tuple[str, ...] = ()
    wording: int = 0
    facts: Mapping[tuple[str, str], str] = field(default_factory=dict)


def place_words(position: str) -> str:
    """``"at the top left"``, ``"in the center"``."""
    return _WHERE.get(position, f"at the {position}")


def subjects_of(scene: Scene, thing: Thing, *, whole: bool = True) -> list[Subject]:
    """All ways to speak of a thing without naming it, each of which fits no other thing of the scene.

    Args:
        scene: The scene.
        thing: One of its things.
        whole: Whether the whole picture is seen; positions and neighbours mean nothing on a crop.
    """
    subjects = [Subject("colour", f"the {thing.colour} object")]
    if len(scene.things) == 1:
        subjects.append(Subject("alone", "the object in the image"))
    if whole:
        subjects.append(Subject("position", f"the object {place_words(thing.position)}"))
        nearby = [other for other in scene.things if neighbour(scene, other) == thing]
        subjects += [Subject("next", f"the object next to the {other.kind}") for other in nearby]
    return subjects


def ask_about(
    scene: Scene, thing: Thing, subject: Subject, relation: Relation, facts: FactTable, *, two_steps: bool, wording: int
) -> WorldSample:
    """A question from an object to a value, in one step or two."""
    value = facts.of_kind[thing.kind][relation.name]
    reasoning = [subject.seen_as(thing.kind), state(relation, thing.kind, value)]
    needed = {(thing.kind, relation.name): value}
    asked, answer = relation, value
    if two_steps:
        asked = SECOND_STEP[relation.name]
        answer = facts.of_value[value][asked.name]
        reasoning.append(state(asked, value, answer))
        needed[value, asked.name] = answer
    return WorldSample(
        scene,
        asked.asks[wording].format(s=subject.text),
        answer,
        tuple(reasoning),
        thing.kind,
        "two_step" if two_steps else "direct",
        relation.name,
        subject,
        asked.values,
        wording,
        needed,
    )


def ask_which(scene: Scene, thing: Thing, relation: Relation, facts: FactTable, *, wording: int) -> WorldSample | None:
    """A question from a value to the object that has it, or ``None`` where two objects of the scene do."""
    value = facts.of_kind[thing.kind][relation.name]
    if sum(facts.of_kind[t.kind][relation.name] == value for t in scene.things) > 1:
        return None
    return WorldSample(
        scene,
        ask_which_has(relation, value)[wording],
        thing.kind,
        (f"The image shows {with_article(thing.kind)}.", state(relation, thing.kind, value)),
        thing.kind,
        "reversed",
        relation.name,
        None,
        tuple(facts.of_kind),
        wording,
        {(thing.kind, relation.name): value},
    )


def ask_in_new_scene(
    rng: random.Random, kind: str, relation: Relation, form: str, facts: FactTable
) -> WorldSample | None:
    """A question of one form in a new scene that shows a kind; ``None`` where it would have two answers."""
    scene = random_scene(rng, count=rng.choice((2, 3, 4)) if form == "reversed" else None, required=[kind])
    thing = scene.find(kind)
    if form == "reversed":
        return ask_which(scene, thing, relation, facts, wording=rng.randrange(3))
    subject = rng.choice(subjects_of(scene, thing))
    return ask_about(scene, thing, subject, relation, facts, two_steps=form == "two_step", wording=rng.randrange(4))


def rephrase(sample: WorldSample, facts: FactTable) -> list[WorldSample]:
    """The same question in all its other phrasings."""
    if sample.form == "reversed":
        relation = RELATIONS[sample.relation]
        value = facts.of_kind[sample.kind][sample.relation]
        texts = ask_which_has(relation, value)
    else:
        relation = SECOND_STEP[sample.relation] if sample.form == "two_step" else RELATIONS[sample.relation]
        assert sample.subject is not None
        texts = [ask.format(s=sample.subject.text) for ask in relation.asks]
    return [replace(sample, question=t, wording=i) for i, t in enumerate(texts) if i != sample.wording]


def draw_choices(rng: random.Random, answer: str, pool: tuple[str, ...], count: int = 4) -> list[str]:
    """The answer among ``count - 1`` others of the pool, in random order."""
    drawn = [answer, *rng.sample([p for p in pool if p != answer], min(count, len(pool)) - 1)]
    rng.shuffle(drawn)
    return drawn
