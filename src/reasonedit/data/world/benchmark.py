"""Edits and probe sets of the embedded world: exact, seeded, any number."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from reasonedit.data.source import Probe
from reasonedit.errors import InputError
from reasonedit.types import Edit, Query

from .changes import Changes
from .facts import FactTable, new_table
from .kinds import ICONS
from .probe_samples import PER_EDIT, ProbeSamples
from .questions import WorldSample, ask_in_new_scene, draw_choices
from .relations import RELATIONS, SECOND_STEP
from .word_pool import WORD_LOC_PER_EDIT, WordPool

PRESETS: dict[str, int] = {"demo": 40, "standard": 200, "stress": 1000}
"""Number of edits of each preset."""

_FORMS = ("direct", "direct", "direct", "two_step", "reversed")
_CHOICE_SHARE = 0.2
_CANDIDATES_PER_EDIT = 20


class EmbeddedWorld:
    """The benchmark of the embedded world.

    Gold answers come from a new table of facts; where it differs from what the VLM learnt, the VLM is confidently
    wrong.
    By convention seeds from 100 on are for development and seeds below 100 for reporting; editors are trained on seed
    1000.

    Args:
        preset: ``"demo"`` (40 edits), ``"standard"`` (200) or ``"stress"`` (1,000).
        seed: Seed of the new table, the edits and the probes.
        edits: Another number of edits than the preset's.
        probe_seed: Another seed of the probes alone.

    Raises:
        InputError: The preset is unknown, or ``edits`` is not positive.
    """

    training: ClassVar[Mapping[str, Any]] = {"seed": 1000}

    def __init__(
        self, preset: str = "demo", seed: int = 0, edits: int | None = None, probe_seed: int | None = None
    ) -> None:
        if preset not in PRESETS:
            raise InputError(f"There is no preset '{preset}' of the embedded world: use {', '.join(PRESETS)}.")
        if edits is not None and edits < 1:
            raise InputError(f"edits must be 1 or more, not {edits}.")
        self.seed, self.probe_seed = seed, seed if probe_seed is None else probe_seed
        self.edits = edits or PRESETS[preset]
        self.facts: FactTable = new_table(seed)
        self._changes = Changes(self.facts)
        self._samples: dict[str, WorldSample] = {}

    def candidates(self) -> Iterator[Edit]:
        """Samples that turn on a fact that changed, or on a novel kind; each fact once before any comes again."""
        rng = random.Random(f"edits-{self.seed}")
        count = 0
        while count < _CANDIDATES_PER_EDIT * self.edits:
            facts = [(kind, name) for kind in ICONS for name in RELATIONS if self._changes.is_new(kind, name)]
            rng.shuffle(facts)
            for kind, name in facts:
                sample = self._draw_sample(rng, kind, name)
                if sample is None:
                    continue
                edit_id = f"w{self.seed}-{count:04d}"
                count += 1
                self._samples[edit_id] = sample
                choices = draw_choices(rng, sample.answer, sample.pool) if rng.random() < _CHOICE_SHARE else None
                yield Edit(
                    sample.scene.render(), sample.question, sample.answer, list(sample.reasoning), choices, edit_id
                )

    def sample(self, name: str) -> WorldSample:
        """The sample that the edit or the probe of this id was made from, its scene included."""
        return self._samples[name]

    def reasons_of(self, probe_id: str) -> Sequence[str]:
        """The reasons of the right answer to a probe."""
        return self._samples[probe_id].reasoning

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """All probes of the edits, those of each edit together, its reliability first."""
        samples = ProbeSamples(self.facts, [self._samples[edit.id] for edit in edits])
        pool = WordPool(self.facts, self.probe_seed, {edit.question for edit in edits})
        probes: list[Probe] = []
        for edit in edits:
            rng = random.Random(f"probes-{self.probe_seed}-{edit.id}")
            drawn = samples.draw(rng, self._samples[edit.id])
            by_group = {g: {str(i): sample for i, sample in enumerate(of_group)} for g, of_group in drawn.items()}
            nearest = pool.nearest(edit.question)  # of which other edits may have the same
            by_group["word_loc"] = {f"of-{name}": sample for name, sample in nearest.items()}
            for group, of_group in by_group.items():
                for name, sample in of_group.items():
                    # A probe is asked as its edit was: with choices, its own, where the edit had some.
                    if group == "rel" or edit.choices is None:
                        choices = edit.choices
                    else:
                        choices = draw_choices(rng, sample.answer, sample.pool)
                    query = Query(sample.scene.render(), sample.question, choices, f"{edit.id}-{group}-{name}")
                    self._samples[query.id] = sample
                    probes.append(Probe(group, query, sample.answer, edit.id))
        return probes

    def expected_probes(self, edit_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """The same for each edit; the world does not allow all of them."""
        return {name: {"rel": 1, **PER_EDIT, "word_loc": WORD_LOC_PER_EDIT} for name in edit_ids}

    def _draw_sample(self, rng: random.Random, kind: str, name: str) -> WorldSample | None:
        """A question that turns on a fact, in one of the forms that need what is new of it."""
        form = "two_step" if self._changes.only_second_changed(kind, name) else rng.choice(_FORMS)
        if form == "two_step" and (name not in SECOND_STEP or not self._changes.two_steps_changed(kind, name)):
            form = "direct"
        return ask_in_new_scene(rng, kind, RELATIONS[name], form, self.facts)
