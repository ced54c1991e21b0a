"""The nouns everything else speaks in: a query, an edit, a hit and an answer."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from PIL import Image

from reasonedit.arrays import MOST_PIXELS
from reasonedit.errors import ReasonEditError
from reasonedit.images import ImageSource, load_image
from reasonedit.kinds import KeyKind

Box = tuple[float, float, float, float]
"""Left, top, right, bottom as shares of the upright image's width and height, from 0 to 1."""

WHOLE: Box = (0.0, 0.0, 1.0, 1.0)
"""The box of the whole image."""

Region = Box | Image.Image
"""Evidence that a user gives: a box of the image, or a picture of its own."""


LONGEST_TEXT, LONGEST_NAME = 4000, 200
"""Characters: of a question, an answer, a choice or a sentence; of an id or an author."""

MOST_SENTENCES, MOST_CHOICES, MOST_REGIONS, MOST_ANSWERS = 100, 100, 100, 100
"""Of a reasoning; of a question; of a sentence; right ones of a question."""


def split_reasoning(reasoning: str | Sequence[str]) -> list[str]:
    """Split a reasoning into sentences, one fact each.

    Text is split at line breaks and then into sentences; a list is taken as it is. Blank entries are dropped.

    Raises:
        ReasonEditError: Nothing is left, or a sentence has no words.

    >>> split_reasoning("The object is curved. It is thrown and comes back.")
    ['The object is curved.', 'It is thrown and comes back.']
    """
    if isinstance(reasoning, str):
        if len(reasoning) > MOST_SENTENCES * LONGEST_TEXT:
            raise ReasonEditError(
                f"The reasoning has {len(reasoning)} characters: {MOST_SENTENCES * LONGEST_TEXT} are the most."
            )
        _whole(reasoning, "reasoning")
        from sentencex import segment

        found = [s for line in reasoning.splitlines() for s in segment("en", line)]
    elif not isinstance(reasoning, Sequence):
        raise ReasonEditError(f"The reasoning must be text or a list of sentences, not {type(reasoning).__name__}.")
    else:
        found = list(reasoning)
        odd = [s for s in found if not isinstance(s, str)]
        if odd:
            raise ReasonEditError(f"A sentence of the reasoning must be text, not {type(odd[0]).__name__}.")
    sentences = [s.strip() for s in found if s.strip()]
    if not sentences:
        raise ReasonEditError("The reasoning is empty: say in at least one sentence why the answer is right.")
    if len(sentences) > MOST_SENTENCES:
        raise ReasonEditError(f"The reasoning has {len(sentences)} sentences: {MOST_SENTENCES} are the most.")
    for sentence in sentences:
        if not any(c.isalnum() for c in sentence):
            raise ReasonEditError(f"The sentence '{sentence}' of the reasoning has no words: leave it out.")
        _storable(sentence, "reasoning")
    return sentences


def _text(value: str, name: str) -> str:
    if not isinstance(value, str):
        raise ReasonEditError(f"The {name} must be text, not {type(value).__name__}.")
    if not value.strip():
        raise ReasonEditError(f"The {name} is empty: write at least one word.")
    return _storable(value.strip(), name)


def checked_name(value: str, name: str) -> str:
    """An id, an author or the like.

    Raises:
        ReasonEditError: It is no text, too long, or nothing that a file can hold.
    """
    if not isinstance(value, str):
        raise ReasonEditError(f"The {name} must be text, not {type(value).__name__}.")
    if len(value) > LONGEST_NAME:
        raise ReasonEditError(f"The {name} has {len(value)} characters: {LONGEST_NAME} are the most.")
    return _storable(value, name)


def _storable(text: str, name: str) -> str:
    """Text that a file can hold.

    Raises:
        ReasonEditError: It has half of a surrogate pair or a NUL in it, or is too long.
    """
    if len(text) > LONGEST_TEXT:
        raise ReasonEditError(f"The {name} has {len(text)} characters: {LONGEST_TEXT} are the most. Shorten it.")
    return _whole(text, name)


def _whole(text: str, name: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ReasonEditError(
            f"The {name} has a broken character (number {error.start + 1}): write it anew."
        ) from error
    if "\0" in text:
        raise ReasonEditError(f"The {name} has a NUL character (number {text.index(chr(0)) + 1}): take it out.")
    return text


def _choices(choices: Sequence[str] | None) -> list[str] | None:
    if choices is None or (isinstance(choices, (list, tuple)) and not choices):
        return None
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise ReasonEditError(f"The choices must be a list of texts, not {type(choices).__name__}.")
    kept = [_text(c, "choice") for c in choices]
    if len(kept) > MOST_CHOICES:
        raise ReasonEditError(f"The question has {len(kept)} choices: {MOST_CHOICES} are the most.")
    if len(kept) < 2:
        raise ReasonEditError(f"A multiple-choice question needs at least two choices, not {len(kept)}.")
    lower = [c.lower() for c in kept]
    twice = next((c for c in kept if lower.count(c.lower()) > 1), None)
    if twice is not None:
        raise ReasonEditError(f"The choice '{twice}' is there twice: each must be another.")
    return kept


def _answers(answers: Sequence[str], answer: str) -> list[str]:
    if isinstance(answers, str) or not isinstance(answers, Sequence):
        raise ReasonEditError(f"The right answers must be a list of texts, not {type(answers).__name__}.")
    if not answers:
        return []
    if len(answers) > MOST_ANSWERS:
        raise ReasonEditError(f"The question has {len(answers)} right answers: {MOST_ANSWERS} are the most.")
    from reasonedit.metrics.functional import AGREED, PEOPLE, matches  # brings torch, which few edits need

    kept = [_text(a, "right answer") for a in answers]
    if matches(answer, kept):
        return kept
    if len(kept) < PEOPLE:
        raise ReasonEditError(f"The answer '{answer}' is not among the right answers {kept}: take one of them.")
    raise ReasonEditError(
        f"The answer '{answer}' is not right by the {len(kept)} right answers: of {PEOPLE} or more, each as often as "
        f"it was said, {AGREED} must agree. Take one that {AGREED} of them give, or list fewer than {PEOPLE}."
    )


def check_box(box: Sequence[float | str]) -> Box:
    """A box as a tuple of floats.

    Raises:
        ReasonEditError: It is not four numbers, reaches outside the image, or has no area.
    """
    try:
        left, top, right, bottom = (float(x) for x in box)
    except (TypeError, ValueError) as error:
        raise ReasonEditError(f"The box {box!r} is not four numbers: left, top, right, bottom.") from error
    if not all(0 <= x <= 1 for x in (left, top, right, bottom)):
        raise ReasonEditError(
            f"The box ({left:g}, {top:g}, {right:g}, {bottom:g}) reaches outside the image: left, top, right and "
            "bottom are shares of its width and height, from 0 to 1."
        )
    if left >= right or top >= bottom:
        raise ReasonEditError(
            f"The box ({left:g}, {top:g}, {right:g}, {bottom:g}) has no area: left must be smaller than right and top "
            "smaller than bottom."
        )
    return left, top, right, bottom


def check_together(pictures: Iterable[object]) -> None:
    """Refuse pictures of their own, as the evidence of an edit, that together are larger than any picture may be.

    Raises:
        ReasonEditError: They are.
    """
    pixels = sum(one.width * one.height for one in pictures if isinstance(one, Image.Image))
    if pixels > MOST_PIXELS:
        raise ReasonEditError(
            f"The pictures that are evidence have {pixels} pixels in all: {MOST_PIXELS // 10**6} million are the most."
        )


def _regions(given: Sequence[object] | None, others: Sequence[Region]) -> list[Region]:
    if given is None:
        return []
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise ReasonEditError(
            f"The evidence of a sentence must be a list of boxes and pictures, not {type(given).__name__}."
        )
    kept: list[Region] = []
    if len(given) > MOST_REGIONS:
        raise ReasonEditError(f"A sentence has {len(given)} regions as evidence: {MOST_REGIONS} are the most.")
    for region in given:
        if isinstance(region, (Image.Image, str, os.PathLike, bytes)) or getattr(region, "ndim", 0) > 1:
            kept.append(load_image(region))  # type: ignore[arg-type]  # what is no array either is refused there
            check_together([*others, *kept])
        else:
            kept.append(check_box(region))  # type: ignore[arg-type]  # anything else is refused there
    return kept


@dataclass
class Query:
    """A question about an image.

    Attributes:
        image: Upright RGB image; a path, bytes or any PIL image is accepted and converted.
        question: The question.
        choices: The choices of a multiple-choice question.
        id: Name of the query, made up when not given.

    Raises:
        ReasonEditError: The image cannot be read, the question is empty, or fewer than two choices are given.
    """

    image: Image.Image
    question: str
    choices: list[str] | None = None
    id: str = field(default_factory=lambda: uuid.uuid4().hex)

    def __post_init__(self) -> None:
        self.question = _text(self.question, "question")
        self.choices = _choices(self.choices)
        self.image = load_image(self.image)

    @classmethod
    def of(cls, image: ImageSource, question: str, choices: Sequence[str] | None = None) -> Query:
        """A query from any source of an image."""
        return cls(image, question, choices)  # type: ignore[arg-type]  # converted on the way in


@dataclass
class Edit:
    """A correction: the right answer to a question about an image, and why it is right.

    Attributes:
        image: As in :class:`Query`.
        question: The question.
        answer: The right answer; one of the choices where there are any.
        reasoning: Why, one fact per sentence; text is split into sentences.
        choices: The choices of a multiple-choice question.
        id: Name of the edit, made up when not given.
        evidence: For each sentence the regions of the image it speaks of: boxes (left, top, right, bottom, as shares of
            the upright image) or crops, several if need be. A sentence with none, or ``None``, has its evidence found.
        author: Who made it.
        time: When it was made (ISO 8601); when it is stored, if not given.
        answers: All right answers, where there are several; ``answer`` is the one that is written, and must be right by
            them. Of ten or more three that agree are right; see :func:`reasonedit.metrics.accuracy`.

    Raises:
        ReasonEditError: Anything of it is unusable, or the answer is not among the choices or not among the answers.
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
        self.id = checked_name(self.id, "id")
        if not self.id.strip():
            raise ReasonEditError("The id of the edit is empty: leave it out, or write one.")
        self.author, self.time = checked_name(self.author, "author"), checked_name(self.time, "time")
        self.question = _text(self.question, "question")
        self.answer = _text(self.answer, "answer")
        self.reasoning = split_reasoning(self.reasoning)
        self.choices = _choices(self.choices)
        if self.choices is not None and self.answer.lower() not in [c.lower() for c in self.choices]:
            raise ReasonEditError(f"The answer '{self.answer}' is not among the choices {self.choices}.")
        self.answers = _answers(self.answers, self.answer)
        self.image = load_image(self.image)
        given: object = self.evidence
        if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
            raise ReasonEditError(
                f"The evidence must be a list with the regions of each sentence, not {type(self.evidence).__name__}."
            )
        if self.evidence and len(self.evidence) != len(self.reasoning):
            raise ReasonEditError(
                f"The evidence is for {len(self.evidence)} sentences but the reasoning has {len(self.reasoning)}: give "
                "one list of regions per sentence, None where there is none."
            )
        regions: list[list[Region]] = []
        for given in self.evidence or [None] * len(self.reasoning):
            regions.append(_regions(given, [region for others in regions for region in others]))
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
            image,  # type: ignore[arg-type]  # converted on the way in, as those below
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
        """The sentence that the answer entry stores (section 3 of the method)."""
        return f"The answer to '{self.question}' is {self.answer}."


@dataclass(frozen=True)
class Hit:
    """A fact that was retrieved for a query.

    Attributes:
        fact: The sentence.
        distance: Distance of its key from the query, in units of the embedding.
        kind: The kind of key under which it was found; its name is taken as well.
        edit_id: The edit it comes from.
        visual_match: How near the picture of its key came to the query's, where that counts (see
            ``RetrievalConfig.visual_match``).
    """

    fact: str
    distance: float
    kind: KeyKind
    edit_id: str
    visual_match: float | None = None

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
        left_out: Facts that were found but left out, the farthest first, because the prompt would be too long.
        thought: What a reasoning VLM wrote before its answer.
        finish_reason: ``"stop"``, or ``"length"`` where ``max_new_tokens`` cut the answer off.
    """

    text: str
    hits: list[Hit]
    prompt: str
    nearest: float
    threshold: float
    left_out: list[Hit] = field(default_factory=list)
    thought: str = ""
    finish_reason: str = "stop"

    def __str__(self) -> str:
        return self.text
