"""What an edit would do, found out without writing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reasonedit.asked import Asked
from reasonedit.codebook import Draft, EditMemory, Entry, StoredEdit
from reasonedit.codebook.paraphrase import paraphrases_of
from reasonedit.evidence import Evidence
from reasonedit.explain import UNLIKE, make_answer
from reasonedit.keys import is_guess
from reasonedit.matching import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import Retrieval
from reasonedit.types import Answer, Edit, Query
from reasonedit.vlm import Generation, Vision

EDIT, PARAPHRASE, GIVEN = "edit", "paraphrase", "given"
"""Where a question comes from: the edit asks it, or in other words; or somebody wants to know."""

_AT_ONCE = 8
"""Questions that are answered at once."""


@dataclass(frozen=True)
class Change:
    """What becomes of a question.

    Attributes:
        origin: ``"edit"``, ``"paraphrase"`` or ``"given"``.
        query: The question.
        before: Its answer now.
        after: Its answer once the edit is written.
    """

    origin: str
    query: Query
    before: Answer
    after: Answer

    @property
    def changed(self) -> bool:
        """Whether the two answers mean something else."""
        return self.before.text != self.after.text and not matches(self.after.text, self.before.text)


@dataclass(frozen=True)
class EditCheck:
    """What an edit would do.

    Attributes:
        edit: The edit as the codebook would keep it.
        keys: How many keys would be new; the others would merge into keys that are there.
        entries: What would be written.
        evidence: The evidence of each sentence, with all windows that were scored; without windows where a person gave
            it or none was sought.
        contradicts: The edits that answer the same question about the same picture differently.
        changes: The questions, before and after.
    """

    edit: StoredEdit
    keys: int
    entries: list[Entry]
    evidence: list[Evidence]
    contradicts: list[StoredEdit]
    changes: list[Change]

    @property
    def warnings(self) -> list[str]:
        """What a person should look at before writing the edit, in sentences."""
        own = self.changes[0].after
        found = []
        if own.in_range is False:
            found.append(f"No fact is fetched by this picture: {UNLIKE}.")
        if not matches(own.text, self.edit.targets):
            found.append(f"With the edit its own question would still be answered '{own.text}'.")
        for evidence in self.evidence:
            if is_guess(evidence):
                found.append(f"Where the picture shows '{evidence.sentence}' is a guess: give a box.")
        return found


@dataclass
class _Part:
    """Questions that are answered at once, with their pictures as the vision part saw them: the facts of each."""

    queries: list[Query]
    vision: Vision
    before: Sequence[Retrieval] = ()
    after: Sequence[Retrieval] = ()

    @property
    def questions(self) -> list[str]:
        return [query.question for query in self.queries]


def check_edit(
    pipeline: EditingPipeline,
    edit: Edit,
    questions: Sequence[Query] = (),
    generation: Generation | None = None,
    replaces: str = "",
) -> EditCheck:
    """Find out what an edit would do: everything is as if it were written, but nothing is.

    Facts are fetched from a fork of the codebook that shares its keys, so the cost hardly grows with these. Everything
    is of one moment: before and after differ by the edit alone. Others who ask meanwhile see nothing of it. Its picture
    does not count for the calibration of an editor that still gathers pictures. (Really writing the edit there takes it
    in, and with the last picture that is needed everything is calibrated.) Of more than 32,768 keys the nearest are
    found nearly exactly, and an added one may be found here but not once it is written.

    The edit's own question is asked first, then the same in other words: in fixed frames ("Tell me: …"), which need no
    second model and cannot change what is asked. They tell whether the edit hangs on its exact words, not whether it
    survives a real rewording: give some of your own.

    Args:
        pipeline: What works on the codebook.
        edit: The edit.
        questions: Other questions that are to be asked before and after.
        generation: How answers are made.
        replaces: The id of an edit that would be replaced, if one would be.

    Raises:
        ConflictError: An edit of this id is there already, or the one that it replaces is undone.
        NotFoundError: The edit that it replaces is not there.
        ReasonEditError: The codebook cannot be read, or the model's numbers are not finite.
    """
    pipeline.memory.refresh()
    if replaces:  # before the costly part
        replaces = pipeline.memory.find(replaces).id
    made_by = pipeline.statistics.value
    draft, evidence = pipeline.draft(edit)
    others = [Query(edit.image, text, edit.choices) for text in paraphrases_of(edit.question)]
    queries = [Query(edit.image, edit.question, edit.choices), *others, *questions]
    origins = [EDIT, *[PARAPHRASE] * len(others), *[GIVEN] * len(questions)]
    parts = [_see(pipeline, queries[start : start + _AT_ONCE]) for start in range(0, len(queries), _AT_ONCE)]
    while True:
        asked = [pipeline.embed_questions(part.vision, part.questions) for part in parts]
        with pipeline.memory.guard:
            pipeline.statistics.take_in(pipeline.memory)
            value = pipeline.statistics.value
            if all(made is value for made in (made_by, *(one.statistics for one in asked))):
                fork, stored = _try_out(pipeline, draft, parts, asked, replaces)
                break
        made_by = pipeline.statistics.value  # the codebook was calibrated anew meanwhile
        draft = pipeline.embed_anew(edit, draft.edit)
    answers = [pair for part in parts for pair in _answer(pipeline, part, generation)]
    changes = [Change(*parts_of) for parts_of in zip(origins, queries, *zip(*answers, strict=True), strict=True)]
    contradicts = [fork.find(edit_id) for edit_id in stored.contradicts]
    return EditCheck(stored, fork.key_count(stored.id), draft.entries, evidence, contradicts, changes)


def _try_out(
    pipeline: EditingPipeline, draft: Draft, parts: Sequence[_Part], asked: Sequence[Asked], replaces: str
) -> tuple[EditMemory, StoredEdit]:
    """Fetch facts from the codebook and from a fork of it that has the edit; called in the codebook's guard.

    Returns:
        The fork, and the edit as it keeps it.
    """
    fork = pipeline.memory.fork()
    retriever = pipeline.retriever.fork(fork)
    if replaces:
        fork.undo(replaces)
    stored = fork.add([draft])[0]
    for part, embedded in zip(parts, asked, strict=True):
        part.before = pipeline.nearest(part.questions, embedded)
        part.after = retriever.retrieve(embedded.keys, embedded.in_range)
    return fork, stored


def _see(pipeline: EditingPipeline, queries: list[Query]) -> _Part:
    """Run the vision part once for each picture of some questions."""
    images = {id(query.image): query.image for query in queries}
    numbers = {key: number for number, key in enumerate(images)}
    vision = pipeline.see(list(images.values()))
    return _Part(queries, vision.select([numbers[id(query.image)] for query in queries]))


def _answer(pipeline: EditingPipeline, part: _Part, generation: Generation | None) -> list[tuple[Answer, Answer]]:
    """The answers before and after; a question whose prompt stays as it is is asked once."""
    choices = [query.choices for query in part.queries]
    prepared = []
    for nearest in (part.before, part.after):
        *_, (_, found) = pipeline.steps(part.vision, part.questions, list(nearest))
        prepared.append(pipeline.prompts(part.vision, part.questions, found, choices, generation))
    (prompts, before), (new_prompts, after) = prepared
    replies = pipeline.vlm.reply(part.vision, prompts, choices, generation)
    rows = [row for row, prompt in enumerate(new_prompts) if prompt != prompts[row]]
    new_replies = list(replies)
    if rows:
        asked = [new_prompts[row] for row in rows], [choices[row] for row in rows]
        for row, reply in zip(rows, pipeline.vlm.reply(part.vision.select(rows), *asked, generation), strict=True):
            new_replies[row] = reply
    return list(
        zip(
            map(make_answer, replies, before, prompts),
            map(make_answer, new_replies, after, new_prompts),
            strict=True,
        )
    )
