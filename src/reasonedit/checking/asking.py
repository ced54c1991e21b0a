"""Questions answered before and after an edit, each by the facts that are fetched for it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from reasonedit.explain import make_answer
from reasonedit.matching import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.retrieval import Retrieval
from reasonedit.types import Answer, Hit, Query
from reasonedit.vlm import Generation, Vision

from .shown import SEEN
from .trials import ELSEWHERE, OTHER, Trial

Steps = Iterable[tuple[str, list[Retrieval]]]
"""What is left of retrieved facts after each step; see :meth:`reasonedit.pipeline.EditingPipeline.steps`."""


@dataclass(frozen=True)
class Change:
    """What becomes of a question.

    Attributes:
        origin: Where it comes from: ``"edit"``, ``"paraphrase"``, ``"given"``, ``"redrawn"``, ``"other"`` or
            ``"elsewhere"``; see :mod:`.trials`.
        query: The question.
        before: Its answer without the edit.
        after: Its answer with the edit.
        note: How the picture was redrawn.
        right: The right answers, where they are known.
        edit_id: The other edit that it is of.
        shown: Of a question that is another edit's or about another picture, and that changes: how sure the VLM is
            (``p_yes``) that its picture shows what the edit says of its own; ``None`` where that was not asked.
    """

    origin: str
    query: Query
    before: Answer
    after: Answer
    note: str = ""
    right: Sequence[str] = ()
    edit_id: str = ""
    shown: float | None = None

    @classmethod
    def of(cls, trial: Trial, before: Answer, after: Answer) -> Change:
        """What becomes of the question of a trial."""
        return cls(trial.origin, trial.query, before, after, trial.note, trial.right, trial.edit_id)

    @property
    def changed(self) -> bool:
        """Whether the two answers mean something else."""
        return self.before.text != self.after.text and not matches(self.after.text, self.before.text)

    @property
    def is_right(self) -> bool:
        """Whether it is answered rightly with the edit; false where the right answer is not known."""
        return bool(self.right) and matches(self.after.text, self.right)

    @property
    def is_harmed(self) -> bool:
        """Whether a question that the edit must leave alone is answered worse with it.

        Where the right answer is known: it was right, and is not. Where it is not known: it is another one, and the VLM
        does not affirm that this picture shows what the edit says of its own.
        """
        if self.origin not in (OTHER, ELSEWHERE) or not self.changed:
            return False
        if self.right:
            return matches(self.before.text, self.right) and not self.is_right
        return (self.shown or 0.0) <= SEEN


@dataclass
class Part:
    """Questions that are answered at once.

    Attributes:
        trials: The questions.
        vision: Their pictures as the vision part saw them.
        before: The steps from their nearest facts without the edit to those that are put before the questions.
        after: The steps with it.
    """

    trials: list[Trial]
    vision: Vision
    before: Steps = field(default_factory=list)
    after: Steps = field(default_factory=list)

    @property
    def queries(self) -> list[Query]:
        """The questions with their pictures."""
        return [trial.query for trial in self.trials]

    @property
    def questions(self) -> list[str]:
        """The questions alone."""
        return [query.question for query in self.queries]


def see_part(pipeline: EditingPipeline, trials: list[Trial]) -> Part:
    """Run the vision part once for each picture of some questions."""
    images = {id(trial.query.image): trial.query.image for trial in trials}
    numbers = {key: number for number, key in enumerate(images)}
    vision = pipeline.see(list(images.values()))
    return Part(trials, vision.select([numbers[id(trial.query.image)] for trial in trials]))


def answer_part(pipeline: EditingPipeline, part: Part, generation: Generation | None) -> list[Change]:
    """The answers before and after; a question whose prompt stays as it is is asked once."""
    choices = [query.choices for query in part.queries]
    prepared = []
    for steps in (part.before, part.after):
        *_, (_, found) = steps
        prepared.append(pipeline.prompts(part.vision, part.questions, found, choices, generation))
    (prompts, before), (new_prompts, after) = prepared
    replies = pipeline.vlm.reply(part.vision, prompts, choices, generation)
    rows = [row for row, prompt in enumerate(new_prompts) if prompt != prompts[row]]
    new_replies = list(replies)
    if rows:
        asked = [new_prompts[row] for row in rows], [choices[row] for row in rows]
        for row, reply in zip(rows, pipeline.vlm.reply(part.vision.select(rows), *asked, generation), strict=True):
            new_replies[row] = reply
    answers = zip(
        map(make_answer, replies, before, prompts), map(make_answer, new_replies, after, new_prompts), strict=True
    )
    return [Change.of(trial, *pair) for trial, pair in zip(part.trials, answers, strict=True)]


def ask_with(
    pipeline: EditingPipeline,
    vision: Vision,
    query: Query,
    facts: Sequence[Sequence[Hit]],
    generation: Generation | None,
) -> list[str]:
    """What the VLM answers to one question about one picture with these facts and no others.

    Args:
        pipeline: What works on the codebook.
        vision: The picture.
        query: The question.
        facts: The facts, for each time that it is asked.
        generation: How answers are made.
    """
    count = len(facts)
    seen, questions, choices = vision.select([0] * count), [query.question] * count, [query.choices] * count
    retrieved = [Retrieval(list(hits), 0.0, 0.0) for hits in facts]
    prompts, _ = pipeline.prompts(seen, questions, retrieved, choices, generation)
    return [reply.text for reply in pipeline.vlm.reply(seen, prompts, choices, generation)]
