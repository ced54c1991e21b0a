"""The questions by which an edit is tried out: what it must put right, and what it must leave alone."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from PIL import Image

from reasonedit.codebook.paraphrase import paraphrases_of
from reasonedit.codebook.stored_edit import picture_name
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Edit, Query
from reasonedit.validation import LONGEST_TEXT

from .redraw import redraw

EDIT, PARAPHRASE, GIVEN = "edit", "paraphrase", "given"
"""Where a question comes from: the edit asks it, or in other words; or somebody wants to know."""
REDRAWN, OTHER, ELSEWHERE = "redrawn", "other", "elsewhere"
"""The edit's question about its picture redrawn; another question; the edit's question about another picture."""

NEAREST = 5
"""Other questions that are asked."""
_ELSEWHERE = 3
"""Other pictures that the edit's own question is asked about."""
_LOOKED_AT, _CANDIDATES = 48, 8
"""Keys of which the edits are looked at; and edits, and questions asked before, of which the nearest are found."""


@dataclass(frozen=True)
class Trial:
    """A question that is asked before and after.

    Attributes:
        origin: Where it comes from; see above.
        query: The question.
        note: How the picture was redrawn.
        right: The right answers, where they are known.
        edit_id: The other edit that it is of.
    """

    origin: str
    query: Query
    note: str = ""
    right: list[str] = field(default_factory=list)
    edit_id: str = ""


def own_trials(edit: Edit) -> list[Trial]:
    """What an edit must put right: its question, the same in other words, and about its picture redrawn.

    Other words that make a long question longer than any may be are left out.
    """
    words = [edit.question, *edit.reasoning, edit.answer]
    rng = random.Random(f"{picture_name(edit.image)} {edit.question}")  # the same edit is tried the same way
    trials = [Trial(EDIT, Query(edit.image, edit.question, edit.choices))]
    for text in paraphrases_of(edit.question):
        if len(text) > LONGEST_TEXT:
            continue
        trials.append(Trial(PARAPHRASE, Query(edit.image, text, edit.choices)))
    for note, copy in redraw(edit.image, words, rng).items():
        trials.append(Trial(REDRAWN, Query(copy, edit.question, edit.choices), note))
    return [replace(trial, right=edit.targets) for trial in trials]


def other_trials(pipeline: EditingPipeline, edit: Edit, asked: Sequence[Query], without: Iterable[str]) -> list[Trial]:
    """What an edit must leave alone: the nearest other questions, and its own question about other pictures.

    Near is what is embedded near: the distance of whole pictures with their questions from the edit's own. Edits come
    from the codebook's index, so that their number hardly counts; of the questions that were asked those are compared
    whose words are nearest.

    Args:
        pipeline: What works on the codebook.
        edit: The edit.
        asked: Questions that were asked before, of which the right answer is not known.
        without: Ids of edits that do not count: its own, and one that it replaces.
    """
    own = (picture_name(edit.image), edit.question)
    found: dict[tuple[str, str], Trial] = {}
    for trial in [*_near_edits(pipeline, edit, set(without)), *_like_in_words(pipeline, edit, asked)]:
        found.setdefault((picture_name(trial.query.image), trial.query.question), trial)
    if own in found and not found[own].edit_id:
        del found[own]
    if not found:
        return []
    names, trials = list(found), list(found.values())
    queries = [Query(edit.image, edit.question), *(trial.query for trial in trials)]
    vision = pipeline.embedder.see([query.image for query in queries], regions=False)
    keys = pipeline.embedder.embed(vision, [query.question for query in queries])
    order = (keys[1:] - keys[0]).norm(dim=1).argsort(stable=True).tolist()
    near = [trials[i] for i in order[:NEAREST]]
    pictures: dict[str, Image.Image] = {}
    for i in order:
        if names[i][0] != own[0] and (names[i][0], edit.question) not in found:
            pictures.setdefault(names[i][0], trials[i].query.image)
    elsewhere = [Trial(ELSEWHERE, Query(image, edit.question, edit.choices)) for image in pictures.values()]
    return [*near, *elsewhere[:_ELSEWHERE]]


def _near_edits(pipeline: EditingPipeline, edit: Edit, without: set[str]) -> list[Trial]:
    """The questions of the nearest other edits, the nearest first; an edit that has lost its picture has none."""
    vision = pipeline.see([edit.image])
    with pipeline.asking(vision, [edit.question]) as asked:
        if asked is None:
            return []
        near = pipeline.retriever.nearest(asked.keys[0], _LOOKED_AT)
        ids = dict.fromkeys(fact.edit_id for key in near for fact in key.facts)
        edits = [pipeline.memory.find(edit_id) for edit_id in ids if edit_id not in without]
        kept = [(stored, pipeline.memory.picture(stored.image)) for stored in edits[:_CANDIDATES] if stored.image]
    return [
        Trial(OTHER, Query(image, stored.question, stored.choices), right=stored.targets, edit_id=stored.id)
        for stored, image in kept
    ]


def _like_in_words(pipeline: EditingPipeline, edit: Edit, asked: Sequence[Query]) -> list[Trial]:
    """Of questions those whose words are nearest to the edit's."""
    if len(asked) > _CANDIDATES:
        halves = pipeline.embedder.embed_texts([edit.question, *(query.question for query in asked)])
        nearest = torch.linalg.vector_norm(halves[1:] - halves[0], dim=1).argsort(stable=True).tolist()
        asked = [asked[i] for i in nearest[:_CANDIDATES]]
    return [Trial(OTHER, query) for query in asked]
