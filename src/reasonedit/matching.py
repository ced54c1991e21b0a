"""When an answer counts as right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from reasonedit.errors import ReasonEditError
from reasonedit.wording import normalise

__all__ = ["COMPARISON", "accuracy", "contains", "exact_match", "matches", "most_said", "normalise"]

COMPARISON = "VQA accuracy (arXiv 1505.00468)"
"""What tables call the comparison of :func:`accuracy` and :func:`matches`."""

PEOPLE, AGREED = 10, 3
"""From so many right answers on they are what people said, one each; so many of them make an answer right."""

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
"""A word, or a character of a script that puts no spaces between words."""


def accuracy(answer: str, targets: str | Sequence[str]) -> float:
    """How right an answer is, from 0 to 1, compared as :func:`normalise` words it.

    Args:
        answer: The answer.
        targets: The right answer, or a list of them. Of fewer than ten any is right. Ten or more are what so many
            people said, each as often as it was said (VQA, VQAv2, A-OKVQA): ``min(people who said it / 3, 1)``, the
            formula of arXiv 1505.00468. (The authors' script also averages over which nine of the ten are asked.)

    Raises:
        ReasonEditError: There is no target.

    >>> accuracy("A kettle.", "kettle")
    1.0
    >>> accuracy("sofa", ["couch", "sofa"])
    1.0
    >>> accuracy("surf", ["surfing"] * 5 + ["surf"] * 3 + ["sea"] * 2)
    1.0
    >>> round(accuracy("sea", ["surfing"] * 5 + ["surf"] * 3 + ["sea"] * 2), 3)
    0.667
    """
    return _score(answer, targets, normalise)


def matches(answer: str, targets: str | Sequence[str]) -> bool:
    """Whether an answer is right: its :func:`accuracy` is 1.

    Raises:
        ReasonEditError: There is no target.

    >>> matches("A kettle.", "kettle")
    True
    >>> matches("kettles", "kettle")
    False
    >>> matches("2", ["two", "a pair"])
    True
    >>> matches("It is a kettle.", "kettle")  # see contains
    False
    """
    return accuracy(answer, targets) == 1


def exact_match(answer: str, targets: str | Sequence[str]) -> bool:
    """Whether an answer is right letter by letter, but for its case and the white space around it.

    It is right as often among several targets as for :func:`accuracy`.

    Raises:
        ReasonEditError: There is no target.

    >>> exact_match(" Kettle", "kettle"), exact_match("kettle.", "kettle")
    (True, False)
    """
    return _score(answer, targets, lambda text: text.strip().casefold()) == 1


def contains(answer: str, targets: str | Sequence[str]) -> bool:
    """Whether a right answer stands in an answer, as whole words.

    Such an answer is not right by that, as the VQA evaluation has it; but where many are so, a shorter prompt may be
    what is missing, and no edit.

    Raises:
        ReasonEditError: There is no target.

    >>> contains("It is a kettle.", "kettle"), contains("It is a kettledrum.", "kettle")
    (True, False)
    """
    said = _WORD.findall(normalise(answer))
    listed = _listed(targets)
    for target in dict.fromkeys(listed):
        words = _WORD.findall(normalise(target))
        length = len(words)
        inside = length > 0 and any(said[i : i + length] == words for i in range(len(said) - length + 1))
        if inside and matches(target, listed):
            return True
    return False


def most_said(answers: Sequence[str]) -> str:
    """The answer that was given most often once normalised, as it was worded most often; the first of equals.

    Raises:
        ReasonEditError: There is none.

    >>> most_said(["cat", "a dog", "dog", "Dog.", "dog"])
    'dog'
    """
    listed = _listed(answers)
    said = Counter(normalise(answer) for answer in listed).most_common(1)[0][0]
    return Counter(answer.strip() for answer in listed if normalise(answer) == said).most_common(1)[0][0]


def _score(answer: str, targets: str | Sequence[str], wording: Callable[[str], str]) -> float:
    listed = _listed(targets)
    said = wording(answer)
    times = sum(wording(target) == said for target in listed)
    return min(times / (AGREED if len(listed) >= PEOPLE else 1), 1.0)


def _listed(targets: str | Sequence[str]) -> list[str]:
    listed = [targets] if isinstance(targets, str) else list(targets)
    if not listed:
        raise ReasonEditError("There is no right answer to compare with: give at least one.")
    return listed
