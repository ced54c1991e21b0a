"""What an edit or a query may hold: each check gives back what is stored, or an error that says what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence

from PIL import Image

from reasonedit.boxes import Region, check_box
from reasonedit.errors import InputError
from reasonedit.images import MOST_PIXELS, load_image
from reasonedit.matching import AGREED, PEOPLE, matches

LONGEST_TEXT, LONGEST_NAME = 4000, 200
"""The most characters of a question, an answer, a choice or a sentence; and of an id or an author."""

_MARK = re.compile(r"^\s*(?:[-*•]|\(?(\d{1,2})[.)])(?:\s+|$)")
"""What stands before a line of a list, or before its next point in the same line."""
_ABBREVIATED = re.compile(
    r"\b(?:max|min|approx|ca|avg|temp|conc|vol|fig|figs|no|nos|par|sec|dept|est|incl|excl|tbsp|tsp|oz|lb|lbs|mg|kg|ml|cm|mm|km|hr|hrs)\.\s*$",
    re.IGNORECASE,
)
_GOES_ON = re.compile(r"\s*[a-z0-9(]")

MOST_SENTENCES, MOST_CHOICES, MOST_REGIONS, MOST_ANSWERS = 100, 100, 100, 100
"""The most sentences of a reasoning, choices of a question, regions of a sentence, and right answers to a question."""


def split_reasoning(reasoning: str | Sequence[str]) -> list[str]:
    """Split a reasoning into sentences, one fact each.

    Text is split at line breaks and then into sentences; a list is taken as it is. Blank entries are dropped.

    Raises:
        InputError: Nothing is left, or a sentence has no words.

    >>> split_reasoning("The object is curved. It is thrown and comes back.")
    ['The object is curved.', 'It is thrown and comes back.']
    """
    if isinstance(reasoning, str):
        if len(reasoning) > MOST_SENTENCES * LONGEST_TEXT:
            raise InputError(
                f"The reasoning has {len(reasoning)} characters: {MOST_SENTENCES * LONGEST_TEXT} is the limit."
            )
        check_characters(reasoning, "reasoning")
        parts = segment_text(reasoning)
    elif not isinstance(reasoning, Sequence):
        raise InputError(f"The reasoning must be text or a list of sentences, not {type(reasoning).__name__}.")
    else:
        parts = list(reasoning)
        odd = [s for s in parts if not isinstance(s, str)]
        if odd:
            raise InputError(f"A sentence of the reasoning must be text, not {type(odd[0]).__name__}.")
    sentences = [s.strip() for s in parts if s.strip()]
    if not sentences:
        raise InputError("The reasoning is empty: say in at least one sentence why the answer is right.")
    if len(sentences) > MOST_SENTENCES:
        raise InputError(f"The reasoning has {len(sentences)} sentences: {MOST_SENTENCES} is the limit.")
    for sentence in sentences:
        if not any(c.isalnum() for c in sentence):
            raise InputError(f"The sentence '{sentence}' of the reasoning has no words: leave it out.")
        _check_storable(sentence, "reasoning")
    return sentences


def segment_text(text: str) -> list[str]:
    r"""The sentences of an English text, each line by itself, without the marks of a list; blank ones too.

    >>> segment_text("1. The object is a bottle.\n2. It holds approx. 3 l.")
    ['The object is a bottle.', 'It holds approx. 3 l.']
    """
    from sentencex import segment

    # sentencex 1.0 panics where another space than a plain one stands between a capital letter and a full stop.
    lines = [re.sub(r"\s", " ", line) for line in text.splitlines()]
    return [
        s for line in lines for s in _without_numbers(_joined(segment("en", _MARK.sub("", line))), _MARK.match(line))
    ]


def _without_numbers(sentences: Iterable[str], mark: re.Match[str] | None) -> Iterator[str]:
    """Sentences of a line without the numbers that go on counting from its mark: other numbers may be what is said."""
    number = int(mark[1]) if mark is not None and mark[1] else None
    for sentence in sentences:
        following = _MARK.match(sentence)
        if number is not None and following is not None and following[1] and int(following[1]) == number + 1:
            number += 1
            yield sentence[following.end() :]
        else:
            yield sentence


def _joined(parts: Iterable[str]) -> list[str]:
    """Sentences of which none was split behind an abbreviation."""
    sentences: list[str] = []
    for part in parts:
        if sentences and _ABBREVIATED.search(sentences[-1]) and _GOES_ON.match(part):
            sentences[-1] = f"{sentences[-1].rstrip()} {part.lstrip()}"
        else:
            sentences.append(part)
    return sentences


def check_text(value: str, name: str) -> str:
    """Check a question, an answer or the like, and strip white space around it.

    Raises:
        InputError: It is no text, empty, too long, or has a character that no file can hold.
    """
    if not isinstance(value, str):
        raise InputError(f"The {name} must be text, not {type(value).__name__}.")
    if not value.strip():
        raise InputError(f"The {name} is empty: write at least one word.")
    return _check_storable(value.strip(), name)


def check_name(value: str, name: str) -> str:
    """Check an id, an author or the like.

    Raises:
        InputError: It is no text, too long, or has a character that no file can hold.
    """
    if not isinstance(value, str):
        raise InputError(f"The {name} must be text, not {type(value).__name__}.")
    if len(value) > LONGEST_NAME:
        raise InputError(f"The {name} has {len(value)} characters: {LONGEST_NAME} is the limit.")
    return _check_storable(value, name)


def check_ids(ids: Sequence[str]) -> Sequence[str]:
    """Check the ids of several edits.

    Raises:
        InputError: They are one text, which would be taken letter by letter.
    """
    if isinstance(ids, str):
        raise InputError(f"The ids must be a list of texts, not one text: write ['{ids}'] for the edit '{ids}'.")
    return ids


def _check_storable(text: str, name: str) -> str:
    """Check that a file can hold a text.

    Raises:
        InputError: It has half of a surrogate pair or a NUL in it, or is too long.
    """
    if len(text) > LONGEST_TEXT:
        raise InputError(f"The {name} has {len(text)} characters: {LONGEST_TEXT} is the limit. Shorten it.")
    return check_characters(text, name)


def check_characters(text: str, name: str) -> str:
    """Check that a text is whole.

    Raises:
        InputError: It has half of a surrogate pair or a NUL in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"The {name} has a broken character (number {error.start + 1}): write it again.") from error
    if "\0" in text:
        raise InputError(f"The {name} has a NUL character (number {text.index(chr(0)) + 1}): take it out.")
    return text


def check_choices(choices: Sequence[str] | None) -> list[str] | None:
    """Check the choices of a multiple-choice question; ``None`` for an open one.

    Raises:
        InputError: There is only one, there are too many, or one is there twice.
    """
    if choices is None or (isinstance(choices, (list, tuple)) and not choices):
        return None
    if isinstance(choices, str) or not isinstance(choices, Sequence):
        raise InputError(f"The choices must be a list of texts, not {type(choices).__name__}.")
    texts = [check_text(c, "choice") for c in choices]
    if len(texts) > MOST_CHOICES:
        raise InputError(f"The question has {len(texts)} choices: {MOST_CHOICES} is the limit.")
    if len(texts) < 2:
        raise InputError(f"A multiple-choice question needs at least two choices, not {len(texts)}.")
    lower = [text.lower() for text in texts]
    twice = next((text for text in texts if lower.count(text.lower()) > 1), None)
    if twice is not None:
        raise InputError(f"The choice '{twice}' appears twice: each must be different.")
    return texts


def check_answers(answers: Sequence[str], answer: str) -> list[str]:
    """Check the right answers to a question.

    Args:
        answers: All of them; empty where ``answer`` is the only one.
        answer: The one that an edit writes.

    Raises:
        InputError: The answer is not right by them, or one of them cannot be used.
    """
    if isinstance(answers, str) or not isinstance(answers, Sequence):
        raise InputError(f"The right answers must be a list of texts, not {type(answers).__name__}.")
    if not answers:
        return []
    if len(answers) > MOST_ANSWERS:
        raise InputError(f"The question has {len(answers)} right answers: {MOST_ANSWERS} is the limit.")
    texts = [check_text(a, "right answer") for a in answers]
    if matches(answer, texts):
        return texts
    if len(texts) < PEOPLE:
        raise InputError(f"The answer '{answer}' is not among the right answers {texts}: take one of them.")
    raise InputError(
        f"The answer '{answer}' is not right by the {len(texts)} right answers: of {PEOPLE} or more, {AGREED} must "
        f"agree. Take an answer that is among them {AGREED} times, or list fewer than {PEOPLE}."
    )


def check_total_size(regions: Iterable[object]) -> None:
    """Refuse evidence whose pictures together are larger than any picture may be.

    Args:
        regions: The evidence of an edit; boxes take no room.

    Raises:
        InputError: They are.
    """
    pixels = sum(region.width * region.height for region in regions if isinstance(region, Image.Image))
    if pixels > MOST_PIXELS:
        raise InputError(
            f"The pictures that are evidence have {pixels} pixels in all: {MOST_PIXELS // 10**6} million is the limit."
        )


def check_regions(given: Sequence[object] | None, others: Sequence[Region]) -> list[Region]:
    """Check the regions that a person gave as evidence of a sentence, and load their pictures.

    Args:
        given: Boxes, and pictures or what :func:`~reasonedit.images.load_image` reads.
        others: The regions of the sentences before it.

    Raises:
        InputError: A region is neither a box nor a picture, or together they are too large.
    """
    if given is None:
        return []
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence):
        raise InputError(
            f"The evidence of a sentence must be a list of boxes and pictures, not {type(given).__name__}."
        )
    regions: list[Region] = []
    if len(given) > MOST_REGIONS:
        raise InputError(f"A sentence has {len(given)} regions as evidence: {MOST_REGIONS} is the limit.")
    for region in given:
        if isinstance(region, (Image.Image, str, os.PathLike, bytes)) or getattr(region, "ndim", 0) > 1:
            regions.append(load_image(region))  # type: ignore[arg-type]  # what is no array either is refused there
            check_total_size([*others, *regions])
        else:
            regions.append(check_box(region))  # type: ignore[arg-type]  # anything else is refused there
    return regions
