"""Edits and probe sets of the embedded world: exact, seeded, any number."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from reasonedit.data.source import Probe
from reasonedit.errors import ReasonEditError
from reasonedit.types import Edit, Query

from .facts import OLD, RELATIONS, SECOND_STEP, FactTable, new_table
from .icons import COLOURS, ICONS, KNOWN_KINDS, NOVEL_KINDS
from .questions import RECOGNITION, Sample, ask_about, ask_which, draw_choices, rephrase, subjects_of
from .scenes import POSITIONS, Scene, Thing, random_scene

PRESETS: dict[str, int] = {"demo": 40, "standard": 200, "stress": 1000}
"""Number of edits of each preset."""

PER_EDIT: dict[str, int] = {"t_gen": 2, "i_gen": 2, "r_gen": 3, "coe_gen": 2, "loc": 3, "hard_loc": 3}
"""Number of probes made for each edit, where the world allows as many."""

_FORMS = ("direct", "direct", "direct", "two_step", "reversed")
_CHOICE_SHARE = 0.2
_TRIES = 300


class EmbeddedWorld:
    """The benchmark of the embedded world.

    Gold answers come from a new table of facts; where it differs from what the VLM learnt, the VLM is confidently
    wrong.
    By convention seeds from 100 on are for development and seeds below 100 for reporting.

    Args:
        preset: ``"demo"`` (40 edits), ``"standard"`` (200) or ``"stress"`` (1,000).
        seed: Seed of the new table, the edits and the probes.
        edits: Another number of edits than the preset's.
        probe_seed: Another seed of the probes alone.

    Raises:
        ReasonEditError: The preset is unknown, or ``edits`` is not positive.
    """

    def __init__(
        self, preset: str = "demo", seed: int = 0, edits: int | None = None, probe_seed: int | None = None
    ) -> None:
        if preset not in PRESETS:
            raise ReasonEditError(f"There is no preset '{preset}' of the embedded world: use {', '.join(PRESETS)}.")
        if edits is not None and edits < 1:
            raise ReasonEditError(f"edits must be 1 or more, not {edits}.")
        self.seed, self.probe_seed = seed, seed if probe_seed is None else probe_seed
        self.edits = edits or PRESETS[preset]
        self.facts: FactTable = new_table(seed)
        self._samples: dict[str, Sample] = {}

    # ---- edits

    def candidates(self) -> Iterator[Edit]:
        """Samples that turn on a fact that changed, or on a novel kind; each fact once before any comes again."""
        rng = random.Random(f"edits-{self.seed}")
        count = 0
        while count < 20 * self.edits:
            facts = [
                (kind, name)
                for kind in ICONS
                for name in RELATIONS
                if kind in NOVEL_KINDS or self._changed(kind, name) or self._changed_after(kind, name)
            ]
            rng.shuffle(facts)
            for kind, name in facts:
                sample = self._edit_sample(rng, kind, name)
                if sample is None:
                    continue
                edit_id = f"w{self.seed}-{count:04d}"
                count += 1
                self._samples[edit_id] = sample
                choices = draw_choices(rng, sample.answer, sample.pool) if rng.random() < _CHOICE_SHARE else None
                yield Edit(
                    sample.scene.render(), sample.question, sample.answer, list(sample.reasoning), choices, edit_id
                )

    def sample(self, name: str) -> Sample:
        """The sample that the edit or the probe of this id was made from, its scene included."""
        return self._samples[name]

    def _changed(self, kind: str, name: str) -> bool:
        return kind in KNOWN_KINDS and self.facts.of_kind[kind][name] != OLD.of_kind[kind][name]

    def _changed_after(self, kind: str, name: str) -> bool:
        """Whether only the second step is new."""
        if name not in SECOND_STEP or kind in NOVEL_KINDS or self._changed(kind, name):
            return False
        return self._two_steps_changed(kind, name)

    def _two_steps_changed(self, kind: str, name: str) -> bool:
        if kind in NOVEL_KINDS:
            return True
        return self.facts.follow(kind, name, two_steps=True) != OLD.follow(kind, name, two_steps=True)

    def _edit_sample(self, rng: random.Random, kind: str, name: str) -> Sample | None:
        relation = RELATIONS[name]
        form = "two_step" if self._changed_after(kind, name) else rng.choice(_FORMS)
        if form == "two_step" and (name not in SECOND_STEP or not self._two_steps_changed(kind, name)):
            form = "direct"
        count = rng.choice((2, 3, 4)) if form == "reversed" else None
        scene = random_scene(rng, count=count, required=[kind])
        thing = next(t for t in scene.things if t.kind == kind)
        if form == "reversed":
            return ask_which(scene, thing, relation, self.facts, wording=rng.randrange(3))
        subject = rng.choice(subjects_of(scene, thing))
        return ask_about(
            scene, thing, subject, relation, self.facts, two_steps=form == "two_step", wording=rng.randrange(4)
        )

    # ---- probes

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """All probes of the edits, those of each edit together, its reliability first."""
        questions = {e.question for e in edits}
        touched = {self._samples[e.id].kind for e in edits}
        used = {fact for e in edits for fact in self._samples[e.id].facts}
        found: list[Probe] = []
        for edit in edits:
            rng = random.Random(f"probes-{self.probe_seed}-{edit.id}")
            sample = self._samples[edit.id]
            others = rephrase(sample, self.facts)
            groups: dict[str, list[Sample]] = {
                "rel": [sample],
                "t_gen": rng.sample(others, min(PER_EDIT["t_gen"], len(others))),
                "i_gen": [replace(sample, scene=sample.scene.redrawn(rng)) for _ in range(PER_EDIT["i_gen"])],
                "r_gen": self._several("r_gen", partial(self._same_reasoning, rng, sample)),
                "coe_gen": self._several("coe_gen", partial(self._new_context, rng, sample)),
                "loc": self._several("loc", partial(self._unrelated, rng, touched, used, questions)),
                "hard_loc": self._several("hard_loc", partial(self._same_question, rng, sample, used)),
            }
            for group, samples in groups.items():
                for i, probe in enumerate(samples):
                    # A probe is asked as its edit was: with choices, its own, where the edit had some.
                    if group == "rel" or edit.choices is None:
                        choices = edit.choices
                    else:
                        choices = draw_choices(rng, probe.answer, probe.pool)
                    query = Query(probe.scene.render(), probe.question, choices, f"{edit.id}-{group}-{i}")
                    self._samples[query.id] = probe
                    found.append(Probe(group, query, probe.answer, edit.id))
        return found

    @staticmethod
    def _several(group: str, make: Callable[[], Sample | None]) -> list[Sample]:
        """As many different samples as the group wants, or fewer where the world does not allow them."""
        made: dict[tuple[Scene, str], Sample] = {}
        for _ in range(_TRIES):
            if len(made) == PER_EDIT[group]:
                break
            sample = make()
            if sample is not None:
                made[sample.scene, sample.question] = sample
        return list(made.values())

    def _needed(self, sample: Sample) -> str:
        """Which step of the sample's reasoning is new to the model: ``kind`` or ``value``."""
        return "value" if self._changed_after(sample.kind, sample.relation) else "kind"

    def _same_reasoning(self, rng: random.Random, sample: Sample) -> Sample | None:
        """R-Gen: another scene and another form of question that needs the same new fact, and no other."""
        relation = RELATIONS[sample.relation]
        if self._needed(sample) == "value":  # another object with the same value, asked in two steps
            value = self.facts.of_kind[sample.kind][sample.relation]
            kinds = [
                k
                for k in KNOWN_KINDS
                if k != sample.kind
                and self.facts.of_kind[k][sample.relation] == value == OLD.of_kind[k][sample.relation]
            ]
            if not kinds:
                return None
            kind = rng.choice(kinds)
            scene = random_scene(rng, required=[kind])
            thing = next(t for t in scene.things if t.kind == kind)
            subject = rng.choice(subjects_of(scene, thing))
            return ask_about(scene, thing, subject, relation, self.facts, two_steps=True, wording=rng.randrange(4))
        forms = ["direct", "reversed"]
        if sample.relation in SECOND_STEP and self._second_is_old(sample.kind, sample.relation):
            forms.append("two_step")
        form = rng.choice([f for f in forms if f != sample.form])
        scene = random_scene(rng, count=rng.choice((2, 3, 4)) if form == "reversed" else None, required=[sample.kind])
        thing = next(t for t in scene.things if t.kind == sample.kind)
        if form == "reversed":
            return ask_which(scene, thing, relation, self.facts, wording=rng.randrange(3))
        subject = rng.choice(subjects_of(scene, thing))
        return ask_about(
            scene, thing, subject, relation, self.facts, two_steps=form == "two_step", wording=rng.randrange(4)
        )

    def _second_is_old(self, kind: str, name: str) -> bool:
        value, step = self.facts.of_kind[kind][name], SECOND_STEP[name].name
        return self.facts.of_value[value][step] == OLD.of_value[value][step]

    def _asked_of(self, rng: random.Random, sample: Sample, kind: str) -> Sample | None:
        """The sample's very question in another scene, where it turns on ``kind``; ``None`` where it does not."""
        relation = RELATIONS[sample.relation]
        if sample.form == "reversed":
            scene = random_scene(rng, count=rng.choice((2, 3, 4)), required=[kind])
            thing = next(t for t in scene.things if t.kind == kind)
            asked = ask_which(scene, thing, relation, self.facts, wording=sample.wording)
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
            thing = next(t for t in scene.things if t.kind == kind)
            if sample.subject not in subjects_of(scene, thing):
                return None
            asked = ask_about(
                scene,
                thing,
                sample.subject,
                relation,
                self.facts,
                two_steps=sample.form == "two_step",
                wording=sample.wording,
            )
        return asked if asked is not None and asked.question == sample.question else None

    def _new_context(self, rng: random.Random, sample: Sample) -> Sample | None:
        """CoE-Gen: another scene with the same kind, the same question."""
        return self._asked_of(rng, sample, sample.kind)

    def _same_question(self, rng: random.Random, sample: Sample, used: set[tuple[str, str]]) -> Sample | None:
        """Hard Loc: the same question, another kind whose answer has not changed and that no edit speaks of."""
        kind = rng.choice([k for k in KNOWN_KINDS if k != sample.kind])
        if self._changed(kind, sample.relation):
            return None
        if sample.form == "two_step" and self._changed_after(kind, sample.relation):
            return None
        asked = self._asked_of(rng, sample, kind)
        if asked is None or used & set(asked.facts) or sample.kind in {t.kind for t in asked.scene.things}:
            return None
        if sample.form == "reversed":  # one answer by the old table too
            value = self.facts.of_kind[kind][sample.relation]
            kinds = [t.kind for t in asked.scene.things if t.kind in KNOWN_KINDS]
            if sum(OLD.of_kind[k][sample.relation] == value for k in kinds) > 1:
                return None
        return asked

    def _unrelated(
        self, rng: random.Random, touched: set[str], used: set[tuple[str, str]], questions: set[str]
    ) -> Sample | None:
        """Loc: no image, question or kind of any edit; where all kinds are edited, no fact of any edit."""
        kinds = [k for k in KNOWN_KINDS if k not in touched]
        if len(kinds) < 6:
            kinds = list(KNOWN_KINDS)
        scene = random_scene(rng, kinds=kinds)
        thing = rng.choice(scene.things)
        if rng.random() < 0.4:
            asked = _recognition(rng, scene, thing)
        else:
            name = rng.choice(list(RELATIONS))
            if self._changed(thing.kind, name) or (thing.kind, name) in used:
                return None
            subject = rng.choice(subjects_of(scene, thing))
            asked = ask_about(
                scene, thing, subject, RELATIONS[name], self.facts, two_steps=False, wording=rng.randrange(4)
            )
        return None if asked.question in questions else asked


def _with_colour(rng: random.Random, scene: Scene, kind: str, colour: str) -> Scene:
    """The same scene with one thing in another colour; a thing that had that colour takes a free one."""
    free = [c for c in COLOURS if c != colour and c not in {t.colour for t in scene.things}]
    swap = rng.choice(free)
    things = tuple(
        replace(t, colour=colour) if t.kind == kind else replace(t, colour=swap) if t.colour == colour else t
        for t in scene.things
    )
    return replace(scene, things=things)


def _recognition(rng: random.Random, scene: Scene, thing: Thing) -> Sample:
    style = rng.choice(("what", "colour", "where"))
    wording = rng.randrange(len(RECOGNITION[style]))
    ask = RECOGNITION[style][wording]
    if style == "what":
        subject = rng.choice(subjects_of(scene, thing))
        reasoning = (subject.seen_as(thing.kind),)
        return Sample(
            scene, ask.format(s=subject.text), thing.kind, reasoning, thing.kind, "recognition", pool=KNOWN_KINDS
        )
    answer = thing.colour if style == "colour" else thing.position
    reasoning = (f"The {thing.kind} is {answer}." if style == "colour" else f"The {thing.kind} is at the {answer}.",)
    pool = tuple(COLOURS) if style == "colour" else POSITIONS
    return Sample(scene, ask.format(k=thing.kind), answer, reasoning, thing.kind, "recognition", pool=pool)
