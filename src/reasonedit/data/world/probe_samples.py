"""What the probes of an edit ask: samples of each group, drawn from the same table of facts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

from .changes import Changes
from .facts import OLD, FactTable
from .icons import COLOURS
from .kinds import KNOWN_KINDS
from .questions import (
    RECOGNITION,
    WorldSample,
    ask_about,
    ask_in_new_scene,
    ask_which,
    rephrase,
    subjects_of,
)
from .relations import RELATIONS, SECOND_STEP
from .scenes import POSITIONS, Scene, Thing, random_scene

PER_EDIT: dict[str, int] = {"t_gen": 2, "i_gen": 2, "r_gen": 3, "coe_gen": 2, "loc": 3, "hard_loc": 3}
"""Number of probes made for each edit, where the world allows as many."""

_TRIES = 300
_FEWEST_KINDS = 6  # so many unedited kinds are enough to draw scenes of


class ProbeSamples:
    """Draws the samples of an edit's probes.

    Args:
        facts: The new table.
        edits: The samples of all edits, which localities must not touch.
    """

    def __init__(self, facts: FactTable, edits: Sequence[WorldSample]) -> None:
        self._facts, self._changes = facts, Changes(facts)
        self._edited_questions = {sample.question for sample in edits}
        self._edited_kinds = {sample.kind for sample in edits}
        self._edited_facts = {fact for sample in edits for fact in sample.facts}

    def draw(self, rng: random.Random, sample: WorldSample) -> dict[str, list[WorldSample]]:
        """The samples of one edit's probes, by group, reliability first.

        Args:
            rng: Source of randomness.
            sample: The sample of the edit.
        """
        paraphrases = rephrase(sample, self._facts)
        return {
            "rel": [sample],
            "t_gen": rng.sample(paraphrases, min(PER_EDIT["t_gen"], len(paraphrases))),
            "i_gen": _draw_several("i_gen", partial(_draw_again, rng, sample)),
            "r_gen": _draw_several("r_gen", partial(self._same_reasoning, rng, sample)),
            "coe_gen": _draw_several("coe_gen", partial(self._same_question_about, rng, sample, sample.kind)),
            "loc": _draw_several("loc", partial(self._unrelated, rng)),
            "hard_loc": _draw_several("hard_loc", partial(self._similar, rng, sample)),
        }

    def _same_reasoning(self, rng: random.Random, sample: WorldSample) -> WorldSample | None:
        """R-Gen: another scene and another form of question that needs the same new fact, and no other."""
        relation = RELATIONS[sample.relation]
        if self._changes.only_second_changed(sample.kind, sample.relation):
            # The new fact is that of the value: another object with the same value, asked in two steps.
            value = self._facts.of_kind[sample.kind][sample.relation]
            kinds = [
                k
                for k in KNOWN_KINDS
                if k != sample.kind
                and self._facts.of_kind[k][sample.relation] == value == OLD.of_kind[k][sample.relation]
            ]
            if not kinds:
                return None
            return ask_in_new_scene(rng, rng.choice(kinds), relation, "two_step", self._facts)
        forms = ["direct", "reversed"]
        if sample.relation in SECOND_STEP and self._changes.second_is_old(sample.kind, sample.relation):
            forms.append("two_step")
        form = rng.choice([f for f in forms if f != sample.form])
        return ask_in_new_scene(rng, sample.kind, relation, form, self._facts)

    def _same_question_about(self, rng: random.Random, sample: WorldSample, kind: str) -> WorldSample | None:
        """The sample's very question in another scene, where it turns on ``kind``; ``None`` where it does not.

        CoE-Gen asks it about the sample's own kind, hard locality about another one.
        """
        relation = RELATIONS[sample.relation]
        if sample.form == "reversed":
            scene = random_scene(rng, count=rng.choice((2, 3, 4)), required=[kind])
            asked = ask_which(scene, scene.find(kind), relation, self._facts, wording=sample.wording)
        else:
            assert sample.subject is not None
            style = sample.subject.style
            required, count = [kind], None
            if style == "next":  # the neighbour keeps its kind
                required.append(sample.subject.text.rsplit(" ", 1)[1])
            if style == "alone":
                count = 1
            if len(set(required)) < len(required):
                return None
            scene = random_scene(rng, count=count, required=required)
            if style == "colour":
                scene = _with_colour(rng, scene, kind, sample.subject.text.split()[1])
            thing = scene.find(kind)
            if sample.subject not in subjects_of(scene, thing):
                return None
            asked = ask_about(
                scene,
                thing,
                sample.subject,
                relation,
                self._facts,
                two_steps=sample.form == "two_step",
                wording=sample.wording,
            )
        return asked if asked is not None and asked.question == sample.question else None

    def _similar(self, rng: random.Random, sample: WorldSample) -> WorldSample | None:
        """Hard Loc: the same question, another kind whose answer has not changed and that no edit speaks of."""
        kind = rng.choice([k for k in KNOWN_KINDS if k != sample.kind])
        if self._changes.changed(kind, sample.relation):
            return None
        if sample.form == "two_step" and self._changes.only_second_changed(kind, sample.relation):
            return None
        asked = self._same_question_about(rng, sample, kind)
        if asked is None or self._edited_facts & set(asked.facts):
            return None
        if sample.kind in {t.kind for t in asked.scene.things}:
            return None
        if sample.form == "reversed":  # one answer by the old table too
            value = self._facts.of_kind[kind][sample.relation]
            kinds = [t.kind for t in asked.scene.things if t.kind in KNOWN_KINDS]
            if sum(OLD.of_kind[k][sample.relation] == value for k in kinds) > 1:
                return None
        return asked

    def _unrelated(self, rng: random.Random) -> WorldSample | None:
        """Loc: no image, question or kind of any edit; where all kinds are edited, no fact of any edit."""
        kinds = [k for k in KNOWN_KINDS if k not in self._edited_kinds]
        if len(kinds) < _FEWEST_KINDS:
            kinds = list(KNOWN_KINDS)
        scene = random_scene(rng, kinds=kinds)
        thing = rng.choice(scene.things)
        if rng.random() < 0.4:
            asked = _ask_to_recognise(rng, scene, thing)
        else:
            name = rng.choice(list(RELATIONS))
            if self._changes.changed(thing.kind, name) or (thing.kind, name) in self._edited_facts:
                return None
            subject = rng.choice(subjects_of(scene, thing))
            asked = ask_about(
                scene, thing, subject, RELATIONS[name], self._facts, two_steps=False, wording=rng.randrange(4)
            )
        return None if asked.question in self._edited_questions else asked


def _draw_several(group: str, draw: Callable[[], WorldSample | None]) -> list[WorldSample]:
    """As many different samples as the group wants, or fewer where the world does not allow them."""
    samples: dict[tuple[Scene, str], WorldSample] = {}
    for _ in range(_TRIES):
        if len(samples) == PER_EDIT[group]:
            break
        sample = draw()
        if sample is not None:
            samples[sample.scene, sample.question] = sample
    return list(samples.values())


def _draw_again(rng: random.Random, sample: WorldSample) -> WorldSample | None:
    """I-Gen: the same content drawn again; ``None`` where the question means another thing now, or none."""
    again = replace(sample, scene=sample.scene.redraw(rng))
    if sample.subject is None or sample.subject in subjects_of(again.scene, again.scene.find(sample.kind)):
        return again
    return None


def _with_colour(rng: random.Random, scene: Scene, kind: str, colour: str) -> Scene:
    """The same scene with one thing in another colour; a thing that had that colour takes a free one."""
    free = [c for c in COLOURS if c != colour and c not in {t.colour for t in scene.things}]
    swap = rng.choice(free)
    things = tuple(
        replace(t, colour=colour) if t.kind == kind else replace(t, colour=swap) if t.colour == colour else t
        for t in scene.things
    )
    return replace(scene, things=things)


def _ask_to_recognise(rng: random.Random, scene: Scene, thing: Thing) -> WorldSample:
    style = rng.choice(("what", "colour", "where"))
    wording = rng.randrange(len(RECOGNITION[style]))
    ask = RECOGNITION[style][wording]
    if style == "what":
        subject = rng.choice(subjects_of(scene, thing))
        reasoning = (subject.seen_as(thing.kind),)
        return WorldSample(
            scene, ask.format(s=subject.text), thing.kind, reasoning, thing.kind, "recognition", pool=KNOWN_KINDS
        )
    answer = thing.colour if style == "colour" else thing.position
    reasoning = (f"The {thing.kind} is {answer}." if style == "colour" else f"The {thing.kind} is at the {answer}.",)
    pool = tuple(COLOURS) if style == "colour" else POSITIONS
    return WorldSample(scene, ask.format(k=thing.kind), answer, reasoning, thing.kind, "recognition", pool=pool)
