"""What one training sequence of the embedded VLM holds: groups of a context and the questions that share it."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

from reading import free_fact, made_up_subject
from wordings import state_answer

from reasonedit.data.world import tasks
from reasonedit.data.world.contexts import UNUSUAL, Context, add_facts, random_value
from reasonedit.data.world.facts import OLD
from reasonedit.data.world.icons import COLOURS, RANDOM
from reasonedit.data.world.kinds import KNOWN_KINDS
from reasonedit.data.world.questions import Subject, place_words, subjects_of
from reasonedit.data.world.relations import RELATIONS, SECOND_STEP, Relation, ask_which_has, with_article
from reasonedit.data.world.scenes import POSITIONS, Scene, Thing
from reasonedit.data.world.tasks import Task

Group = tuple[list[str], list[Task]]
"""The sentences of a context and the questions asked after it."""

_RECOGNITION = (
    *("colour", "colour", "position", "position", "position", "colour_of", "alone"),
    *("where", "where", "where", "next", "next", "next", "beside", "beside", "beside", "beside"),
)


def _relation(rng: random.Random) -> Relation:
    return RELATIONS[rng.choice(list(RELATIONS))]


def _second_relation(rng: random.Random) -> Relation:
    return RELATIONS[rng.choice(list(SECOND_STEP))]


def _maybe_choices(rng: random.Random, task: Task) -> Task:
    return tasks.with_choices(rng, task, tasks.pool_of(task)) if rng.random() < 0.13 else task


def plain_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """Questions with no context: seeing, and what the parameters must know."""
    nothing = Context()
    asked: list[Task | None] = []
    for _ in range(rng.randint(4, 7)):
        r = rng.random()
        if not scene.things or r < 0.16:
            asked.append(
                tasks.yes_or_no(rng, scene, rng.choice(("kind", "kind", "fact", "fact", "seen", "second")), test=False)
            )
            if not scene.things and rng.random() < 0.3:
                asked.append(tasks.describe(rng, scene))
            continue
        thing = rng.choice(scene.things)
        if r < 0.56:
            asked.append(tasks.recognise(rng, scene, rng.choice(_RECOGNITION), whole=whole))
        elif r < 0.80:
            asked.append(tasks.knowledge(rng, scene, nothing, thing, _relation(rng), whole=whole))
        elif r < 0.90:
            asked.append(tasks.which(rng, scene, nothing, thing, _relation(rng)))
        elif r < 0.95:
            asked.append(tasks.two_steps(rng, scene, nothing, thing, _second_relation(rng), whole=whole))
        else:
            asked.append(tasks.describe(rng, scene))
    return [], [
        _maybe_choices(rng, t) if "yes_no" not in t.ability and "describe" not in t.ability else t for t in asked if t
    ]


def _also_retrieved(rng: random.Random, scene: Scene, context: Context) -> None:
    """Sentences that retrieval brings along: what another picture showed, the answer to another question."""
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):  # about some other picture: the picture at hand decides
        colour = rng.choice([t.colour for t in scene.things] or list(COLOURS))
        context.sentences.append(Subject("colour", f"the {colour} object").seen_as(rng.choice(KNOWN_KINDS)))
    for _ in range(rng.choice((0, 0, 0, 1, 2, 3))):
        context.sentences.append(_other_answer(rng, _relation(rng), set()))


def _other_answer(rng: random.Random, relation: Relation, taken: set[str]) -> str:
    """The answer to a question about some other object or picture; ``taken`` are ways to speak of objects to avoid."""
    subjects = [f"the {c} object" for c in COLOURS]
    subjects += [f"the object {place_words(p)}" for p in POSITIONS]
    subjects += [f"the {k}" for k in rng.sample(KNOWN_KINDS, 4)]
    subject = rng.choice([s for s in subjects if s not in taken])
    if relation.name in SECOND_STEP and rng.random() < 0.3:
        relation = SECOND_STEP[relation.name]
    elif rng.random() < 0.15:
        question = rng.choice(ask_which_has(relation, rng.choice(relation.values)))
        return state_answer(rng, question, rng.choice(KNOWN_KINDS))
    return state_answer(rng, rng.choice(relation.asks).format(s=subject), rng.choice(relation.values))


def context_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """Facts with random values, and questions that need one of them, two of them, or none."""
    context = Context()
    kinds = [t.kind for t in scene.things]
    thing, relation = rng.choice(scene.things), _relation(rng)
    told = rng.random() < 0.85
    if told:
        value = random_value(rng, thing.kind, relation, test=False)
        context.tell(rng, relation, thing.kind, value)
        if relation.name in SECOND_STEP and rng.random() < 0.7:
            step = SECOND_STEP[relation.name]
            context.tell(rng, step, value, rng.choice(step.values if rng.random() < 0.7 else UNUSUAL))
    add_facts(rng, context, rng.choice((0, 0, 1, 2, 2, 3, 4)), kinds, test=False, relation=relation.name)
    if rng.random() < 0.15:
        step = SECOND_STEP[rng.choice(list(SECOND_STEP))]
        subject = rng.choice(list(OLD.of_value))
        if step.name in OLD.of_value[subject]:
            context.tell(rng, step, subject, rng.choice(step.values))
    _also_retrieved(rng, scene, context)
    rng.shuffle(context.sentences)
    asked: list[Task | None] = []
    for _ in range(rng.randint(3, 5)):
        r = rng.random()
        if r < 0.40 and context.of_kind:
            visible = [(t, n) for t in scene.things for n in RELATIONS if (t.kind, n) in context.of_kind]
            if visible and rng.random() < 0.8:
                t, name = rng.choice(visible)
                asked.append(tasks.knowledge(rng, scene, context, t, RELATIONS[name], whole=whole))
            else:  # about a named object, seen or not
                kind, name = rng.choice(list(context.of_kind))
                question = rng.choice(RELATIONS[name].asks).format(s=rng.choice([f"the {kind}", with_article(kind)]))
                asked.append(Task("named_context", question, context.of_kind[kind, name]))
        elif r < 0.64:
            asked.append(tasks.knowledge(rng, scene, context, rng.choice(scene.things), _relation(rng), whole=whole))
        elif r < 0.74:
            found = [(t, n) for t in scene.things for n in RELATIONS if (t.kind, n) in context.of_kind]
            t, name = rng.choice(found) if found else (rng.choice(scene.things), _relation(rng).name)
            asked.append(tasks.which(rng, scene, context, t, RELATIONS[name]))
        elif r < 0.91:
            found = [(t, n) for t in scene.things for n in SECOND_STEP if (t.kind, n) in context.of_kind]
            both = [(t, n) for t, n in found if (context.of_kind[t.kind, n], SECOND_STEP[n].name) in context.of_value]
            t, name = rng.choice(both or found or [(rng.choice(scene.things), _second_relation(rng).name)])
            asked.append(tasks.two_steps(rng, scene, context, t, RELATIONS[name], whole=whole))
        else:
            asked.append(tasks.recognise(rng, scene, rng.choice(_RECOGNITION), whole=whole))
    distinct = {t.question: t for t in asked if t}
    return context.sentences, [_maybe_choices(rng, t) for t in distinct.values()]


def stated_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """The answer to the question stated outright, in its words or in others, among answers to similar questions."""
    context = Context()
    thing, relation = rng.choice(scene.things), _relation(rng)
    subject = tasks.draw_subject(rng, scene, thing, whole=whole)
    step: Relation = relation
    if relation.name in SECOND_STEP and rng.random() < 0.35:
        step = SECOND_STEP[relation.name]
    if rng.random() < 0.8:
        asks, told = (
            [a.format(s=subject.text) for a in step.asks],
            rng.choice(step.values if rng.random() < 0.6 else UNUSUAL),
        )
    else:
        value = rng.choice(relation.values)
        asks, told = ask_which_has(relation, value), rng.choice(KNOWN_KINDS)
    first = rng.choice(asks)
    asked = first if rng.random() < 0.5 else rng.choice(asks)
    others = [s.text for s in subjects_of(scene, thing, whole=whole)]
    for _ in range(rng.choice((0, 1, 2, 3, 4))):
        other = relation if rng.random() < 0.7 else _relation(rng)
        context.sentences.append(_other_answer(rng, other, {*others, subject.text, f"the {thing.kind}"}))
    if rng.random() < 0.5:
        context.sentences.append(subject.seen_as(thing.kind))
    distractors = rng.choice((0, 0, 1, 2))
    add_facts(rng, context, distractors, [t.kind for t in scene.things], test=False, avoid=(thing.kind, relation.name))
    rng.shuffle(context.sentences)
    # Retrieval puts the nearest first, so the answer to this very question mostly stands there.
    position = 0 if rng.random() < 0.6 else rng.randint(0, len(context.sentences))
    context.sentences.insert(position, state_answer(rng, first, told))
    tested = [Task("stated" if asked == first else "stated_otherwise", asked, told)]
    # Something else about the same thing: what is stated of other objects must not be taken for an answer.
    if step is relation and rng.random() < 0.6:
        spare = rng.choice([r for r in RELATIONS.values() if r is not relation])
        if (thing.kind, spare.name) not in context.of_kind:
            tested.append(
                Task(
                    "beside_stated", rng.choice(spare.asks).format(s=subject.text), OLD.of_kind[thing.kind][spare.name]
                )
            )
    if rng.random() < 0.3 and subject.style != "name":
        tested.append(Task("beside_stated", f"What is {subject.text}?", thing.kind))
    return context.sentences, tested


def elsewhere_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """Facts and answers that belong to other pictures, as a search among many edits brings them."""
    context = Context()
    thing, relation = rng.choice(scene.things), _relation(rng)
    subject = tasks.draw_subject(rng, scene, thing, whole=whole)
    mine = {s.text for s in subjects_of(scene, thing, whole=whole)} | {subject.text, f"the {thing.kind}"}
    visible = {t.kind for t in scene.things}
    others = [k for k in KNOWN_KINDS if k not in visible]
    for _ in range(rng.randint(2, 5)):
        r, asked = rng.random(), relation if rng.random() < 0.6 else _relation(rng)
        if r < 0.3:
            context.sentences.append(_other_answer(rng, asked, mine))
        elif r < 0.45:  # of something that is spoken of in the same way, but asked something else
            other = rng.choice([x for x in RELATIONS.values() if x is not relation])
            question = rng.choice(other.asks).format(s=subject.text)
            context.sentences.append(state_answer(rng, question, rng.choice(other.values)))
        elif r < 0.65:
            colour = rng.choice([t.colour for t in scene.things] if rng.random() < 0.6 else list(COLOURS))
            name = rng.choice(others if rng.random() < 0.7 else UNUSUAL)
            context.sentences.append(Subject("colour", f"the {colour} object").seen_as(name))
        else:
            name = rng.choice(others if rng.random() < 0.7 else UNUSUAL)
            context.tell(rng, asked, name, random_value(rng, name, asked, test=False))
    asks: list[Task | None] = [
        Task("elsewhere", rng.choice(relation.asks).format(s=subject.text), OLD.of_kind[thing.kind][relation.name]),
        tasks.recognise(rng, scene, rng.choice(_RECOGNITION), whole=whole),
    ]
    if rng.random() < 0.4 and (question := tasks.which(rng, scene, Context(), thing, relation)):
        told = OLD.of_kind[thing.kind][relation.name]
        if told not in context.of_kind.values():
            asks.append(question)
    return context.sentences, [t for t in asks if t]


def retrieved_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """What a search among many edits brings: facts of one relation, most of them of things that are not there."""
    context = Context()
    thing, relation = rng.choice(scene.things), _relation(rng)
    visible = [t.kind for t in scene.things]
    absent = [k for k in KNOWN_KINDS if k not in visible]
    if rng.random() < 0.5:
        context.tell(rng, relation, thing.kind, random_value(rng, thing.kind, relation, test=False))
    for _ in range(rng.randint(2, 7)):
        r, told = rng.random(), relation if rng.random() < 0.65 else _relation(rng)
        name = rng.choice(visible if r < 0.25 else absent if r < 0.85 else UNUSUAL)
        if (name, told.name) not in context.of_kind and (name, told.name) != (thing.kind, relation.name):
            context.tell(rng, told, name, random_value(rng, name, told, test=False))
    step = SECOND_STEP.get(relation.name)
    if step is not None and rng.random() < 0.6:
        mine = context.value(thing.kind, relation.name)
        first = [mine] if rng.random() < 0.5 else []
        for value in [*first, *rng.sample([v for v in relation.values if v != mine], rng.randint(0, 4))]:
            context.tell(rng, step, value, rng.choice(step.values))
    rng.shuffle(context.sentences)
    asked: list[Task | None] = [
        tasks.knowledge(rng, scene, context, thing, relation, whole=whole),
        tasks.knowledge(rng, scene, context, rng.choice(scene.things), relation, whole=whole),
        tasks.which(rng, scene, context, rng.choice(scene.things), relation) if rng.random() < 0.6 else None,
        tasks.two_steps(rng, scene, context, rng.choice(scene.things), relation, whole=whole) if step else None,
        tasks.recognise(rng, scene, rng.choice(_RECOGNITION), whole=whole) if rng.random() < 0.3 else None,
    ]
    # A question about something the context leaves open is a harder one: they count apart.
    named = [replace(t, ability=f"retrieved_{t.ability}") for t in asked if t]
    return context.sentences, [_maybe_choices(rng, t) for t in {t.question: t for t in named}.values()]


def unknown_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """A thing of a kind never seen before, which the context names and speaks of."""
    context = Context()
    thing = next(t for t in scene.things if t.kind.startswith(RANDOM))
    known = [t for t in scene.things if t is not thing]
    subjects = subjects_of(scene, thing, whole=whole)
    name, relation = rng.choice(UNUSUAL), _relation(rng)
    value = rng.choice(relation.values if rng.random() < 0.7 else UNUSUAL)
    named = rng.random() < 0.6
    if named:
        context.sentences.append(rng.choice(subjects).seen_as(name))
    elif rng.random() < 0.5:  # it was somewhere else in another picture
        context.sentences.append(Subject("position", f"the object {place_words(rng.choice(POSITIONS))}").seen_as(name))
    context.tell(rng, relation, name, value)
    second = None
    if relation.name in SECOND_STEP and rng.random() < 0.6:
        step = SECOND_STEP[relation.name]
        second = rng.choice(step.values)
        context.tell(rng, step, value, second)
    add_facts(rng, context, rng.choice((0, 1, 2, 3, 5)), [t.kind for t in known], test=False, relation=relation.name)
    rng.shuffle(context.sentences)
    asked = [
        Task("unknown", rng.choice(relation.asks).format(s=rng.choice(subjects).text), value),
        Task("unknown", rng.choice(relation.asks).format(s=rng.choice(subjects).text), value),
    ]
    if second is not None:
        step = SECOND_STEP[relation.name]
        asked.append(Task("unknown_two_step", rng.choice(step.asks).format(s=rng.choice(subjects).text), second))
    if value not in {context.value(t.kind, relation.name) for t in known}:
        asked.append(Task("unknown_reversed", rng.choice(ask_which_has(relation, value)), name))
    for other in rng.sample(known, min(2, len(known))):
        about = rng.choice(subjects_of(scene, other, whole=whole)).text
        if RANDOM in about:  # beside the thing that has no name
            about = f"the {other.colour} object"
        value_of_it = context.value(other.kind, relation.name)
        asked.append(Task("unknown_beside", rng.choice(relation.asks).format(s=about), value_of_it))
    return context.sentences, list({t.question: t for t in asked}.values())


def free_group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """Facts of any sort about what is seen and what is not, in varied words."""
    context = Context()
    asks: list[Task] = []
    others = rng.sample([k for k in KNOWN_KINDS if k not in {t.kind for t in scene.things}], 3)
    about: list[Thing | str] = [*rng.sample(scene.things, min(2, len(scene.things))), *others[: rng.randint(0, 2)]]
    seen: set[tuple[str, str]] = set()
    for target in about:
        kind = target.kind if isinstance(target, Thing) else target
        noun = f"the {kind}" if rng.random() < 0.7 else with_article(kind)
        sentence, wordings, answer = free_fact(rng, noun, kind)
        if (key := (wordings[0], "")) in seen:  # the same relation of two objects is a good distractor: keep it
            key = (wordings[0], kind)
        seen.add(key)
        context.sentences.append(sentence)
        for wording in rng.sample(wordings, min(len(wordings), 2)):
            if isinstance(target, Thing):
                subject = tasks.draw_subject(rng, scene, target, whole=whole, named=0.25).text
            else:
                subject = rng.choice([f"the {kind}", with_article(kind)])
            asks.append(Task("free", wording.format(s=subject), answer))
    add_facts(rng, context, rng.choice((0, 0, 1, 2)), [t.kind for t in scene.things], test=False)
    for t in scene.things:
        for name in RELATIONS:
            if (t.kind, name) in context.of_kind:
                asks.append(tasks.knowledge(rng, scene, context, t, RELATIONS[name], whole=whole))
    rng.shuffle(context.sentences)
    rng.shuffle(asks)
    return context.sentences, asks[:4]


def group(rng: random.Random, scene: Scene, whole: bool) -> Group:
    """One context and several questions about a picture."""
    if not scene.things:
        return plain_group(rng, scene, whole)
    if any(t.kind.startswith(RANDOM) for t in scene.things):
        return unknown_group(rng, scene, whole)
    makers: list[Callable[[random.Random, Scene, bool], Group]]
    makers = [plain_group, context_group, stated_group, free_group, elsewhere_group, retrieved_group]
    return rng.choices(makers, (0.28, 0.17, 0.06, 0.07, 0.14, 0.28))[0](rng, scene, whole)


def text_group(rng: random.Random) -> Group:
    """Questions without a picture: reading varied English, and the old table by name."""
    if rng.random() < 0.4:
        asked = []
        for _ in range(6):
            kind, relation = rng.choice(KNOWN_KINDS), _relation(rng)
            name = rng.choice([f"the {kind}", with_article(kind)])
            if relation.name in SECOND_STEP and rng.random() < 0.3:
                step = SECOND_STEP[relation.name]
                answer = OLD.follow(kind, relation.name, two_steps=True)
                asked.append(Task("text_two_step", rng.choice(step.asks).format(s=name), answer))
            else:
                question = rng.choice(relation.asks).format(s=name)
                asked.append(Task("text_parameters", question, OLD.of_kind[kind][relation.name]))
        return [], [_maybe_choices(rng, t) for t in asked]
    sentences, asked = [], []
    for _ in range(rng.randint(1, 4)):
        subject, noun = made_up_subject(rng)
        sentence, wordings, answer = free_fact(rng, subject, noun)
        sentences.append(sentence)
        asked.append(Task("text_free", rng.choice(wordings).format(s=subject), answer))
    rng.shuffle(sentences)
    return sentences, asked
