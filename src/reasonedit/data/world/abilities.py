"""What the embedded VLM can do: one ability per row of a table, with the bound that it must reach."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.types import answer_as_fact

from . import tasks
from .contexts import Context, add_facts, random_value
from .questions import Subject
from .relations import RELATIONS, SECOND_STEP, Relation
from .scenes import Scene, Thing, random_part, random_scene
from .tasks import Task

Item = tuple[Image.Image, str, Task]
"""A picture, the facts before the question, and the question."""
Maker = Callable[[random.Random], Item | None]


@dataclass(frozen=True)
class Ability:
    """One row: what is measured, the bound, and how a question of it is made.

    With ``without_facts`` the row is the loss of right answers against the same questions asked without their facts.
    """

    name: str
    target: float
    make: Maker
    choices: bool = False
    without_facts: bool = False

    @property
    def lower_is_better(self) -> bool:
        """Whether the bound is an upper one."""
        return self.without_facts

    def reached(self, share: float) -> bool:
        """Whether a share is on the right side of the bound."""
        return share <= self.target if self.lower_is_better else share >= self.target


def _scene(rng: random.Random, required: tuple[str, ...] = ()) -> tuple[Scene, Thing]:
    scene = random_scene(rng, required=required)
    thing = next(t for t in scene.things if t.kind == required[0]) if required else rng.choice(scene.things)
    return scene, thing


def _relation(rng: random.Random) -> Relation:
    return RELATIONS[rng.choice(list(RELATIONS))]


def _recognise(style: str, rng: random.Random) -> Item | None:
    scene, _ = _scene(rng)
    task = tasks.recognise(rng, scene, style)
    return None if task is None else (scene.render(), "", task)


def _next_to(rng: random.Random) -> Item | None:
    return _recognise(rng.choice(("next", "beside")), rng)


def _parameters(rng: random.Random) -> Item:
    scene, thing = _scene(rng)
    return scene.render(), "", tasks.knowledge(rng, scene, Context(), thing, _relation(rng))


def _facts(count: int, rng: random.Random) -> Item:
    """The relevant fact among ``count``; the others speak of visible things and of the same relation."""
    scene, thing = _scene(rng)
    relation, context = _relation(rng), Context()
    context.tell(rng, relation, thing.kind, random_value(rng, thing.kind, relation, test=True))
    kinds = [t.kind for t in scene.things]
    add_facts(rng, context, count - 1, kinds, test=True, relation=relation.name)
    rng.shuffle(context.sentences)
    return scene.render(), context.text, tasks.knowledge(rng, scene, context, thing, relation)


def _irrelevant(rng: random.Random) -> Item:
    scene, thing = _scene(rng)
    relation, context = _relation(rng), Context()
    kinds = [t.kind for t in scene.things]
    add_facts(rng, context, 3, kinds, test=True, avoid=(thing.kind, relation.name), relation=relation.name)
    return scene.render(), context.text, tasks.knowledge(rng, scene, context, thing, relation)


def _reversed(in_context: bool, rng: random.Random) -> Item | None:
    scene = random_scene(rng, count=rng.choice((2, 3, 4)))
    thing, relation, context = rng.choice(scene.things), _relation(rng), Context()
    if in_context:
        context.tell(rng, relation, thing.kind, random_value(rng, thing.kind, relation, test=True))
        add_facts(rng, context, 2, [t.kind for t in scene.things], test=True, relation=relation.name)
        rng.shuffle(context.sentences)
    task = tasks.which(rng, scene, context, thing, relation)
    return None if task is None else (scene.render(), context.text, task)


def _two_steps(rng: random.Random) -> Item | None:
    scene, thing = _scene(rng)
    relation, context = RELATIONS[rng.choice(list(SECOND_STEP))], Context()
    value = random_value(rng, thing.kind, relation, test=True)
    context.tell(rng, relation, thing.kind, value)
    step = SECOND_STEP[relation.name]
    context.tell(rng, step, value, rng.choice(step.values))
    rng.shuffle(context.sentences)
    task = tasks.two_steps(rng, scene, context, thing, relation)
    return None if task is None else (scene.render(), context.text, task)


def _yes_no(style: str, rng: random.Random) -> Item:
    """On a part of a picture, as evidence is sought."""
    scene, _ = _scene(rng)
    box, inside = random_part(rng, scene)
    task = tasks.yes_or_no(rng, Scene(inside, scene.background, scene.seed), style, test=True)
    return scene.render().crop(box), "", task


def _stated(rng: random.Random) -> Item:
    scene, thing = _scene(rng)
    relation = _relation(rng)
    question = rng.choice(relation.asks).format(s=tasks.draw_subject(rng, scene, thing, whole=True).text)
    answer = random_value(rng, thing.kind, relation, test=True)
    return scene.render(), answer_as_fact(question, answer), Task("stated", question, answer)


def _choices(rng: random.Random) -> Item | None:
    """Recognition, knowledge or a fact in context, asked as multiple choice."""
    makers: tuple[Maker, ...] = (
        partial(_recognise, "colour"),
        partial(_recognise, "position"),
        _parameters,
        partial(_facts, 3),
    )
    return rng.choice(makers)(rng)


@lru_cache(1)
def _page() -> list[dict[str, Any]]:
    path = Path(__file__).parent / "free_english.json"
    return list(json.loads(path.read_text()))


def _hand_written(rng: random.Random) -> Item:
    """A fact of the page, beside one or two others of it, about a thing that the question does not name."""
    entry = rng.choice(_page())
    scene, thing = _scene(rng, (entry["kind"],))
    others = [e for e in _page() if e["kind"] != entry["kind"]]
    facts = [entry["fact"], *(e["fact"] for e in rng.sample(others, rng.randint(0, 2)))]
    rng.shuffle(facts)
    subject = Subject("colour", f"the {thing.colour} object")
    first, *also = entry["answers"]
    return scene.render(), " ".join(facts), Task("free", entry["question"].format(s=subject.text), first, tuple(also))


ABILITIES: tuple[Ability, ...] = (
    Ability("recognition: by colour", 0.95, partial(_recognise, "colour")),
    Ability("recognition: by position", 0.95, partial(_recognise, "position")),
    Ability("recognition: next to", 0.95, _next_to),
    Ability("recognition: what colour", 0.95, partial(_recognise, "colour_of")),
    Ability("recognition: where", 0.95, partial(_recognise, "where")),
    Ability("knowledge from parameters", 0.95, _parameters),
    Ability("follows the relevant fact: 1 fact", 0.95, partial(_facts, 1)),
    Ability("follows the relevant fact: among 3", 0.92, partial(_facts, 3)),
    Ability("follows the relevant fact: among 5", 0.90, partial(_facts, 5)),
    Ability("loss by 3 irrelevant facts", 0.05, _irrelevant, without_facts=True),
    Ability("reversed, by parameters", 0.90, partial(_reversed, False)),
    Ability("reversed, by context", 0.90, partial(_reversed, True)),
    Ability("two steps, both facts in context", 0.80, _two_steps),
    Ability("yes/no on crops: kinds", 0.95, partial(_yes_no, "kind")),
    Ability("yes/no on crops: facts", 0.93, partial(_yes_no, "fact")),
    Ability("answer stated outright", 0.97, _stated),
    Ability("multiple choice", 0.95, _choices, choices=True),
    Ability("facts in words never trained on", 0.75, _hand_written),
)
