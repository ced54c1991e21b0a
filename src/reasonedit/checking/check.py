"""What an edit does, or would do: found out without writing anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from reasonedit.asked import Asked
from reasonedit.codebook import Draft, EditMemory, Entry, StoredEdit
from reasonedit.codebook.stored_edit import as_edit
from reasonedit.errors import ConflictError, InputError
from reasonedit.evidence import Evidence
from reasonedit.explain import UNLIKE
from reasonedit.keys import evidence_of, is_guess
from reasonedit.matching import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Edit, Query
from reasonedit.vlm import Generation, Vision

from .asking import Change, Part, answer_part, see_part
from .causes import find_cause
from .sentences import LEADS_ELSEWHERE, Doubt, doubt_sentences
from .shown import rate_same, unsure_sentences
from .trials import EDIT, ELSEWHERE, GIVEN, OTHER, PARAPHRASE, Trial, other_trials, own_trials
from .verdict import Finding, Verdict, judge

_AT_ONCE = 8
"""Questions that are answered at once."""


@dataclass(frozen=True)
class EditCheck:
    """What an edit does, or would do.

    Attributes:
        edit: The edit as the codebook keeps it, or would keep it.
        keys: How many keys are new by it; the others merge into keys that are there.
        entries: What would be written; nothing of an edit that is written already.
        evidence: The evidence of each sentence, with all windows that were scored; without windows where a person gave
            it or none was sought.
        contradicts: The edits that answer the same question about the same picture differently.
        changes: The questions, before and after: the edit's own first, then the same in other words, then those given.
        trials: What else was asked: its question about its picture redrawn, the nearest other questions, and its
            question about other pictures.
        finding: What follows from all of them.
        doubts: Sentences of the edit that may be false, or beside the point.
    """

    edit: StoredEdit
    keys: int
    entries: list[Entry]
    evidence: list[Evidence]
    contradicts: list[StoredEdit]
    changes: list[Change]
    trials: list[Change] = field(default_factory=list)
    finding: Finding = field(default_factory=lambda: Finding(Verdict.HOLDS))
    doubts: list[Doubt] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        """What becomes of the edit, in one word."""
        return self.finding.verdict

    @property
    def harmed(self) -> list[Change]:
        """The questions that are answered worse with the edit."""
        return [change for change in self.trials if change.is_harmed]

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before writing the edit, in sentences."""
        own = self.changes[0].after
        found = []
        if own.in_range is False:
            found.append(f"Only edits of this very picture count for it: {UNLIKE}.")
        if not matches(own.text, self.edit.targets):
            found.append(f"With the edit its own question would still be answered '{own.text}'.")
        for evidence in self.evidence:
            if is_guess(evidence):
                found.append(f"Where the picture shows '{evidence.sentence}' is a guess: give a box.")
        return found


@dataclass(frozen=True)
class _Attempt:
    """An edit, and the codebook with it."""

    memory: EditMemory
    stored: StoredEdit
    entries: list[Entry]
    evidence: list[Evidence]


def check_edit(
    pipeline: EditingPipeline,
    edit: Edit | str,
    questions: Sequence[Query] = (),
    generation: Generation | None = None,
    replaces: str = "",
    asked: Sequence[Query] = (),
) -> EditCheck:
    """Find out what an edit would do, or does: everything is as if it were written, but nothing is.

    Facts are fetched from a fork of the codebook that shares its keys, so the cost hardly grows with these. Everything
    is of one moment: before and after differ by the edit alone. Others who ask meanwhile see nothing of it. Its picture
    does not count for the calibration of an editor that still gathers pictures. (Really writing the edit there takes it
    in, and with the last picture that is needed everything is calibrated.) Of more than 32,768 keys the nearest are
    found nearly exactly, and an added one may be found here but not once it is written.

    The edit's own question is asked first, then the same in other words: in fixed frames ("Tell me: …"), which need no
    second model and cannot change what is asked. They tell whether the edit hangs on its exact words, not whether it
    survives a real rewording: give some of your own. Then it is asked about its picture redrawn (see :mod:`.redraw`),
    and the nearest other questions are asked (see :mod:`.trials`). The verdict follows from all of these but the given
    ones, of which only their asker knows what should become.

    Args:
        pipeline: What works on the codebook.
        edit: The edit; or the id of one that is written already: then before is without it, and after as it is.
        questions: Other questions that are to be asked before and after.
        generation: How answers are made.
        replaces: The id of an edit that would be replaced, if one would be.
        asked: Questions that were asked before: the nearest of them are among the other questions.

    Raises:
        InputError: One of the questions has no picture.
        ConflictError: An edit of this id is there already, or the one that it replaces, or that is to be checked, is
            undone.
        NotFoundError: The edit that it replaces, or that is to be checked, is not there.
        ReasonEditError: The codebook cannot be read, or the model's numbers are not finite.
    """
    for query in questions:
        if query.text_only:
            raise InputError(f"The question '{query.question}' has no picture, so it gets no facts: leave it out.")
    pipeline.memory.refresh()
    if replaces:  # before the costly part
        pipeline.memory.find(replaces)
    if isinstance(edit, str):
        return _check_written(pipeline, edit, questions, generation, asked)
    made_by = pipeline.statistics.value
    draft, evidence = pipeline.draft(edit)
    parts = _plan(pipeline, edit, questions, asked, {edit.id, replaces})
    while True:
        embedded = [pipeline.embed_questions(part.vision, part.questions) for part in parts]
        with pipeline.memory.guard:
            pipeline.statistics.take_in(pipeline.memory)
            value = pipeline.statistics.value
            if all(made is value for made in (made_by, *(one.statistics for one in embedded))):
                fork, stored = _try_out(pipeline, draft, parts, embedded, replaces)
                break
        made_by = pipeline.statistics.value  # the codebook was calibrated anew meanwhile
        draft = pipeline.embed_anew(edit, draft.edit)
    return _conclude(pipeline, _Attempt(fork, stored, draft.entries, evidence), parts, generation)


def _check_written(
    pipeline: EditingPipeline,
    edit_id: str,
    questions: Sequence[Query],
    generation: Generation | None,
    asked: Sequence[Query],
) -> EditCheck:
    """Check an edit that is written already."""
    memory = pipeline.memory
    stored = memory.find(edit_id)
    if stored.id in memory.undone:
        raise ConflictError(f"The edit '{stored.id}' is undone, so it does nothing: restore it first.")
    edit = as_edit(stored, {name: memory.picture(name) for name in stored.pictures})
    parts = _plan(pipeline, edit, questions, asked, {stored.id})
    while True:
        embedded = [pipeline.embed_questions(part.vision, part.questions) for part in parts]
        with memory.guard:
            pipeline.statistics.take_in(memory)
            if all(one.statistics is pipeline.statistics.value for one in embedded):
                fork, whole = memory.fork(), memory.fork()
                retriever = pipeline.retriever.fork(fork)
                fork.undo(stored.id)
                for part, one in zip(parts, embedded, strict=True):
                    before, after = retriever.retrieve(one.keys, one.in_range), pipeline.nearest(part.questions, one)
                    part.before = pipeline.steps(part.vision, part.questions, before, fork)
                    part.after = pipeline.steps(part.vision, part.questions, after, whole)
                break
    return _conclude(pipeline, _Attempt(memory, stored, [], evidence_of(stored)), parts, generation)


def _plan(
    pipeline: EditingPipeline, edit: Edit, questions: Sequence[Query], asked: Sequence[Query], without: set[str]
) -> list[Part]:
    """All that is asked, the edit's own question first, with its pictures seen."""
    trials = [*own_trials(edit), *(Trial(GIVEN, query) for query in questions)]
    trials += other_trials(pipeline, edit, asked, without)
    return [see_part(pipeline, trials[start : start + _AT_ONCE]) for start in range(0, len(trials), _AT_ONCE)]


def _try_out(
    pipeline: EditingPipeline, draft: Draft, parts: Sequence[Part], asked: Sequence[Asked], replaces: str
) -> tuple[EditMemory, StoredEdit]:
    """Fetch facts from the codebook and from a fork of it that has the edit; called in the codebook's guard.

    Returns:
        The fork, and the edit as it keeps it.
    """
    before, fork = pipeline.memory.fork(), pipeline.memory.fork()
    retriever = pipeline.retriever.fork(fork)
    if replaces:
        fork.undo(replaces)
    stored = fork.add([draft])[0]
    for part, embedded in zip(parts, asked, strict=True):
        nearest = pipeline.nearest(part.questions, embedded)
        part.before = pipeline.steps(part.vision, part.questions, nearest, before)
        nearest = retriever.retrieve(embedded.keys, embedded.in_range)
        part.after = pipeline.steps(part.vision, part.questions, nearest, fork)
    return fork, stored


def _rate(pipeline: EditingPipeline, edit: StoredEdit, change: Change, vision: Vision) -> Change:
    """A change with whether its picture shows what the edit says of its own, where that matters."""
    if change.origin not in (OTHER, ELSEWHERE) or not change.changed:
        return change
    return replace(change, shown=rate_same(pipeline, vision, edit.reasoning))


def _conclude(
    pipeline: EditingPipeline, attempt: _Attempt, parts: Sequence[Part], generation: Generation | None
) -> EditCheck:
    """Answer all questions, and say what follows."""
    memory, stored = attempt.memory, attempt.stored
    changes = [
        _rate(pipeline, stored, change, part.vision.select([row]))
        for part in parts
        for row, change in enumerate(answer_part(pipeline, part, generation))
    ]
    own, vision = changes[0], parts[0].vision.select([0])
    doubts = doubt_sentences(pipeline, stored, own.query, vision, generation)
    if own.is_right:
        writing = pipeline.design.writing
        sought = writing.entries != "answer" and writing.keys != "image"
        unsure = sought and bool(unsure_sentences(stored, attempt.evidence))
        misled = any(doubt.why == LEADS_ELSEWHERE for doubt in doubts)
        finding = judge(changes, stored.id, unsure=unsure, misled=misled)
    else:
        finding = find_cause(pipeline, memory, stored, attempt.evidence, own, vision, generation)
    asked = [change for change in changes if change.origin in (EDIT, PARAPHRASE, GIVEN)]
    trials = [change for change in changes if change.origin not in (EDIT, PARAPHRASE, GIVEN)]
    counting = memory.edits  # since then edits may have been undone, or lost where a codebook was repaired
    contradicts = [counting[edit_id] for edit_id in stored.contradicts if edit_id in counting]
    keys = memory.key_count(stored.id)
    return EditCheck(stored, keys, attempt.entries, attempt.evidence, contradicts, asked, trials, finding, doubts)
