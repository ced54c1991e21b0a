"""Why an edit does not take: what was fetched for its question, and what the VLM answers with other facts."""

from __future__ import annotations

from collections.abc import Sequence

from reasonedit.codebook import EditMemory, StoredEdit
from reasonedit.evidence import Evidence
from reasonedit.explain import UNLIKE
from reasonedit.kinds import KeyKind
from reasonedit.matching import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Hit
from reasonedit.vlm import Generation, Vision

from .asking import Change, ask_with
from .shown import unsure_sentences
from .verdict import NOT_SURE, Finding, Verdict

_BOX = "Give a box for what each sentence speaks of."
_WORDS = "Say it in other words: as plainly as the question asks it."
_FACT = "Add a fact: the step that leads from what is seen to the answer, as a sentence of its own."


def find_cause(
    pipeline: EditingPipeline,
    memory: EditMemory,
    edit: StoredEdit,
    evidence: Sequence[Evidence],
    own: Change,
    vision: Vision,
    generation: Generation | None,
) -> Finding:
    """Find out why an edit's own question is not answered rightly with it.

    The VLM is asked again with the edit's fetched facts alone, and with all of its facts. So what is said is what
    would have happened, not what seems likely:

    - none of its facts is fetched: **no evidence found** where the picture shows no sentence surely, else **not
      fetched**;
    - with its fetched facts alone the answer is right: **contradicted**, by the other facts;
    - with all of its facts the answer is right: **not fetched**, the missing ones;
    - else **fetched but not followed**.

    Args:
        pipeline: What works on the codebook.
        memory: The codebook with the edit.
        edit: The edit.
        evidence: Where its sentences are seen.
        own: Its own question.
        vision: Its picture.
        generation: How answers are made.
    """
    hits = own.after.hits
    own_facts = edit.facts
    fetched = [hit for hit in hits if hit.fact in own_facts]  # of whichever edit that says the same
    others = [hit for hit in hits if hit.fact not in own_facts]
    if not fetched:
        return _not_fetched(edit, evidence, own)
    complete = [Hit(text, 0.0, KeyKind.ANSWER, edit.id) for text in own_facts]
    alone, with_all = ask_with(pipeline, vision, own.query, [fetched, complete], generation)
    if others and matches(alone, edit.targets):
        return _contradicted(pipeline, memory, edit, own, vision, generation)
    if not others and len(fetched) >= len(own_facts):
        with_all = own.after.text  # the same prompt
    missing = [text for text in own_facts if text not in {hit.fact for hit in hits}]
    if missing and matches(with_all, edit.targets):
        told = "; ".join(f"'{text}'" for text in missing)
        because = [f"The answer is '{own.after.text}': not all of its facts are fetched. These are missing: {told}."]
        return Finding(Verdict.NOT_FETCHED, [*because, *_in_place(others)], [_BOX, _WORDS])
    because = [f"Its facts are fetched, but the model answers '{own.after.text}'."]
    return Finding(Verdict.NOT_FOLLOWED, because, [_WORDS, _FACT])


def _not_fetched(edit: StoredEdit, evidence: Sequence[Evidence], own: Change) -> Finding:
    """None of an edit's facts is fetched."""
    because = [f"The answer is '{own.after.text}': none of its facts is fetched."]
    if own.after.in_range is False:
        because.append(f"No fact is fetched by this picture: {UNLIKE}.")
        return Finding(Verdict.NOT_FETCHED, because, ["Calibrate with pictures like this one."])
    because += _in_place(own.after.hits)
    left_out = [hit.fact for hit in own.after.left_out if hit.fact in edit.facts]
    if left_out:
        because.append(f"Fetched, but left out again: {_quote(left_out)}.")
    if own.after.nearest > own.after.threshold:
        because.append("Its nearest key is farther than the gate lets pass.")
    unsure = unsure_sentences(edit, evidence)
    if unsure:
        because.append(NOT_SURE)
        return Finding(Verdict.NO_EVIDENCE, because, [_BOX, _WORDS])
    return Finding(Verdict.NOT_FETCHED, because, [_BOX, _WORDS])


def _contradicted(
    pipeline: EditingPipeline,
    memory: EditMemory,
    edit: StoredEdit,
    own: Change,
    vision: Vision,
    generation: Generation | None,
) -> Finding:
    """Which other edit's facts lead elsewhere: without them the answer would be right."""
    others = [hit for hit in own.after.hits if hit.fact not in edit.facts]
    ids = list(dict.fromkeys(hit.edit_id for hit in others))
    without = [[hit for hit in own.after.hits if hit not in others or hit.edit_id != other] for other in ids]
    replies = ask_with(pipeline, vision, own.query, without, generation) if len(ids) > 1 else [edit.answer]
    to_blame = [other for other, reply in zip(ids, replies, strict=True) if matches(reply, edit.targets)] or ids
    because = [f"The answer is '{own.after.text}': other facts say otherwise."]
    for other in to_blame:
        facts = [hit.fact for hit in others if hit.edit_id == other]
        because.append(f"Edit {other} ('{memory.find(other).answer}'): {_quote(facts)}.")
    named = ", ".join(to_blame)
    return Finding(Verdict.CONTRADICTED, because, [f"Undo or correct the other edit ({named}), if it is wrong.", _BOX])


def _in_place(hits: Sequence[Hit]) -> list[str]:
    return [f"Fetched in place: {_quote([hit.fact for hit in hits])}."] if hits else []


def _quote(texts: Sequence[str]) -> str:
    return "; ".join(f"'{text}'" for text in texts)
