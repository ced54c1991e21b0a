"""The same text in other words: how far a key's text half reaches."""

from __future__ import annotations

import random

_QUESTIONS = (
    "Tell me: {lower}",
    "Can you say {lower}",
    "Looking at the image, {lower}",
    "Please answer: {lower}",
)
_STATEMENTS = ("Is it true that {lower}?", "Is it the case that {lower}?", "Does it hold that {lower}?")


def paraphrases_of(question: str) -> list[str]:
    """A question in all the other words that the fixed rules know.

    >>> paraphrases_of("What is it?")[0]
    'Tell me: what is it?'
    """
    lower = question[:1].lower() + question[1:]
    return [frame.format(lower=lower) for frame in _QUESTIONS]


def paraphrase(text: str, rng: random.Random) -> str:
    """Say a question in other words, or turn a statement into a question about itself, by fixed rules.

    >>> paraphrase("A kettle is used for boiling.", random.Random(0)).endswith("a kettle is used for boiling?")
    True
    """
    lower = text[:1].lower() + text[1:]
    if text.rstrip().endswith("?"):
        return rng.choice(_QUESTIONS).format(lower=lower)
    return rng.choice(_STATEMENTS).format(lower=lower.rstrip(" .!"))
