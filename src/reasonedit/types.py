"""The nouns of the package: a query, an edit, a hit and an answer."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image

from reasonedit.boxes import Region
from reasonedit.errors import InputError
from reasonedit.images import ImageSource, load_image
from reasonedit.kinds import KeyKind
from reasonedit.validation import check_answers, check_choices, check_name, check_regions, check_text, split_reasoning


def answer_as_fact(question: str, answer: str) -> str:
    """The fact that says the answer to a question (section 3 of the method)."""
    return f"The answer to '{question}' is {answer}."


@dataclass
class Query:
    """A question about an image.

    Attributes:
        image: Upright RGB image; a path, bytes or any PIL image is accepted and converted.
        question: The question.
        choices: The choices of a multiple-choice question.
        id: Name of the query; a random one when not given.
        text_only: Whether it is asked without a picture: then ``image`` is a blank one, which the VLM is not shown, and
            there are no choices. See :meth:`without_picture`.

    Raises:
        InputError: The image cannot be read, the question is empty, fewer than two choices are given, or any where
            there is no picture.
    """

    image: Image.Image
    question: str
    choices: list[str] | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    text_only: bool = False

    def __post_init__(self) -> None:
        self.question = check_text(self.question, "question")
        self.choices = check_choices(self.choices)
        self.image = load_image(self.image)
        if self.text_only and self.choices:
            raise InputError(f"The question '{self.question}' has choices and no picture: leave its choices out.")

    @classmethod
    def of(cls, image: ImageSource, question: str, choices: Sequence[str] | None = None) -> Query:
        """A query from any source of an image."""
        return cls(image, question, choices)  # type: ignore[arg-type]  # converted by __post_init__

    @classmethod
    def without_picture(cls, question: str, id: str) -> Query:
        """An open question that is asked without a picture, as text locality asks it."""
        return cls(Image.new("RGB", (64, 64), "grey"), question, id=id, text_only=True)


@dataclass
class Edit:
    """A correction: the right answer to a question about an image, and why it is right.

    Attributes:
        image: As in :class:`Query`.
        question: The question.
        answer: The right answer; one of the choices where there are any.
        reasoning: Why, one fact per sentence; text is split into sentences.
        choices: The choices of a multiple-choice question.
        id: Name of the edit; a random one when not given.
        evidence: For each sentence the regions of the image that it speaks of: any number of boxes (left, top, right,
            bottom, as shares of the upright image) or pictures. For a sentence with none, or ``None``, they are sought.
        author: Who made it.
        time: When it was made (ISO 8601); when it is stored, if not given.
        answers: All right answers, where there are several; ``answer`` is the one that is written, and must be right by
            them. Of ten or more answers three must agree to be right; see :func:`reasonedit.metrics.accuracy`.

    Raises:
        InputError: A part of it cannot be used, or the answer is not among the choices or not among the answers.
    """

    image: Image.Image
    question: str
    answer: str
    reasoning: list[str]
    choices: list[str] | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    evidence: Sequence[Sequence[Region] | None] = ()
    author: str = ""
    time: str = ""
    answers: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.id = check_name(self.id, "id")
        if not self.id.strip():
            raise InputError("The id of the edit is empty: leave it out, or write one.")
        self.author, self.time = check_name(self.author, "author"), check_name(self.time, "time")
        self.question = check_text(self.question, "question")
        self.answer = check_text(self.answer, "answer")
        self.reasoning = split_reasoning(self.reasoning)
        self.choices = check_choices(self.choices)
        if self.choices is not None and self.answer.lower() not in [c.lower() for c in self.choices]:
            raise InputError(f"The answer '{self.answer}' is not among the choices {self.choices}.")
        self.answers = check_answers(self.answers, self.answer)
        self.image = load_image(self.image)
        evidence: object = self.evidence
        if isinstance(evidence, (str, bytes)) or not isinstance(evidence, Sequence):
            raise InputError(
                f"The evidence must be a list with the regions of each sentence, not {type(self.evidence).__name__}."
            )
        if self.evidence and len(self.evidence) != len(self.reasoning):
            raise InputError(
                f"The evidence is for {len(self.evidence)} sentences but the reasoning has {len(self.reasoning)}: give "
                "one list of regions per sentence, None where there is none."
            )
        regions: list[list[Region]] = []
        for of_sentence in self.evidence or [None] * len(self.reasoning):
            earlier = [region for others in regions for region in others]
            regions.append(check_regions(of_sentence, earlier))
        self.evidence = regions

    @classmethod
    def of(
        cls,
        image: ImageSource,
        question: str,
        answer: str,
        reasoning: str | Sequence[str],
        choices: Sequence[str] | None = None,
        evidence: Sequence[Sequence[Region] | None] = (),
        author: str = "",
        answers: Sequence[str] = (),
    ) -> Edit:
        """An edit from any source of an image and from reasoning as text or as sentences."""
        return cls(
            image,  # type: ignore[arg-type]  # converted by __post_init__, as those below
            question,
            answer,
            reasoning,  # type: ignore[arg-type]
            choices,  # type: ignore[arg-type]
            evidence=evidence,
            author=author,
            answers=answers,  # type: ignore[arg-type]
        )

    @property
    def targets(self) -> list[str]:
        """What an answer is compared with: ``answers``, or ``answer`` alone."""
        return self.answers or [self.answer]

    @property
    def answer_fact(self) -> str:
        """The fact that says the answer (section 3 of the method)."""
        return answer_as_fact(self.question, self.answer)


@dataclass(frozen=True)
class Hit:
    """A fact that was retrieved for a query.

    Attributes:
        fact: The sentence.
        distance: Distance of its key from the query, in units of the embedding.
        kind: The kind of key under which it was found, or the name of the kind.
        edit_id: The edit it comes from.
        visual_match: How near the picture of its key came to the query's; ``None`` where that does not count (see
            ``RetrievalConfig.visual_match``).
        same_picture: Whether it is about the whole of a picture that is the query's own.
        via: The fact that led to it, where no key of its own did; see ``naming`` and ``walk`` of ``RetrievalConfig``.
    """

    fact: str
    distance: float
    kind: KeyKind
    edit_id: str
    visual_match: float | None = None
    same_picture: bool = False
    via: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", KeyKind(self.kind))


@dataclass
class Answer:
    """An answer with what led to it.

    Attributes:
        text: The answer.
        hits: The facts put before the question, nearest first; empty when the gate was closed.
        prompt: The text the VLM was asked, facts included.
        nearest: Distance of the nearest key (infinite for an empty codebook).
        threshold: The largest distance at which the gate is open.
        left_out: Facts that were fetched but left out, the farthest first: the image does not show them, or the prompt
            would be too long.
        thought: What a reasoning VLM wrote before its answer.
        finish_reason: ``"stop"``, or ``"length"`` where ``max_new_tokens`` or the end of the model's context cut the
            answer off.
        in_range: Whether the image is like those of the calibration; ``None`` where that was not looked at. For one
            that is unlike all of them only edits of this very image count.
    """

    text: str
    hits: list[Hit]
    prompt: str
    nearest: float
    threshold: float
    left_out: list[Hit] = field(default_factory=list)
    thought: str = ""
    finish_reason: str = "stop"
    in_range: bool | None = None

    def __str__(self) -> str:
        return self.text
