"""When an answer counts as right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from reasonedit.errors import InputError
from reasonedit.wording import normalise

__all__ = ["COMPARISON", "accuracy", "contains", "exact_match", "matches", "most_common_answer", "normalise"]

COMPARISON = "VQA accuracy (arXiv 1505.00468)"
"""What tables call the comparison of :func:`accuracy` and :func:`matches`."""

PEOPLE, AGREED = 10, 3
"""So many right answers, or more, count as one answer each of so many people; then so many must agree on an answer."""

UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff"
"""Scripts that put no spaces between words, as ranges of a regular expression."""

_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")
"""A word, or a character of a script that puts no spaces between words."""


def accuracy(answer: str, targets: str | Sequence[str]) -> float:
    """How right an answer is, from 0 to 1, after :func:`normalise`.

    Args:
        answer: The answer.
        targets: The right answer, or a list of them. Of fewer than ten any is right. Ten or more are the answers of so
            many people (VQA, VQAv2, A-OKVQA): the accuracy is ``min(people who gave the answer / 3, 1)``, the formula
            of arXiv 1505.00468. (The authors' script also averages over the ten ways to leave one of the people out.)

    Raises:
        InputError: There is no target.

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
        InputError: There is no target.

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
    """Whether an answer is right letter by letter; case and white space around it do not count.

    Several targets count as for :func:`accuracy`.

    Raises:
        InputError: There is no target.

    >>> exact_match(" Kettle", "kettle"), exact_match("kettle.", "kettle")
    (True, False)
    """
    return _score(answer, targets, lambda text: text.strip().casefold()) == 1


def contains(answer: str, targets: str | Sequence[str]) -> bool:
    """Whether an answer contains a right answer, as whole words.

    For the VQA evaluation that does not make it right. Where many answers are like that, they may need a prompt that
    asks for short answers, and no edit.

    Raises:
        InputError: There is no target.

    >>> contains("It is a kettle.", "kettle"), contains("It is a kettledrum.", "kettle")
    (True, False)
    """
    answer_words = _WORD.findall(normalise(answer))
    right = _as_list(targets)
    for target in dict.fromkeys(right):
        words = _WORD.findall(normalise(target))
        length = len(words)
        starts = range(len(answer_words) - length + 1)
        inside = length > 0 and any(answer_words[i : i + length] == words for i in starts)
        if inside and matches(target, right):
            return True
    return False


def most_common_answer(answers: Sequence[str]) -> str:
    """The most common answer after :func:`normalise`, in its most common wording; of equals the first.

    Raises:
        InputError: There is no answer.

    >>> most_common_answer(["cat", "a dog", "dog", "Dog.", "dog"])
    'dog'
    """
    wordings = _as_list(answers)
    commonest = Counter(normalise(answer) for answer in wordings).most_common(1)[0][0]
    return Counter(answer.strip() for answer in wordings if normalise(answer) == commonest).most_common(1)[0][0]


def _score(answer: str, targets: str | Sequence[str], wording: Callable[[str], str]) -> float:
    right = _as_list(targets)
    worded = wording(answer)
    count = sum(wording(target) == worded for target in right)
    return min(count / (AGREED if len(right) >= PEOPLE else 1), 1.0)


def _as_list(targets: str | Sequence[str]) -> list[str]:
    answers = [targets] if isinstance(targets, str) else list(targets)
    if not answers:
        raise InputError("There is no right answer to compare with: give at least one.")
    return answers
