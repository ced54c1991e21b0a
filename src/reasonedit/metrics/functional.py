"""When an answer counts as right."""

from __future__ import annotations

import re

_ARTICLE = re.compile(r"^(?:a|an|the)\s+(?=\S)")


def normalise(answer: str) -> str:
    """Lower case, single spaces, no final punctuation, no leading article.

    >>> normalise(" The  Kitchen. ")
    'kitchen'
    """
    text = " ".join(answer.lower().split()).rstrip(" .,;:!?")
    return _ARTICLE.sub("", text)


def matches(answer: str, target: str) -> bool:
    """Whether two answers are the same once normalised.

    >>> matches("A kettle.", "kettle")
    True
    >>> matches("kettles", "kettle")
    False
    """
    return normalise(answer) == normalise(target)
