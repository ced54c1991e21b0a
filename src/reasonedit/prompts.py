"""The wordings in which a frozen VLM is asked; each family's chat template goes around them."""

from __future__ import annotations

from collections.abc import Sequence

DESCRIBE = "Describe this image."
"""The prompt to which a sentence is scored as an answer (section 2 of the method; arXiv 2602.02408)."""

CHOICES = "{question} Choices: {choices}."
"""A multiple-choice question."""


def verification_question(sentence: str) -> str:
    """The question by which the VLM verifies a sentence (section 2 of the method).

    >>> verification_question("A kettle is used for boiling.")
    'Does the image show a kettle is used for boiling?'
    """
    return f"Does the image show {sentence.strip().lower().rstrip('.!')}?"


def with_facts(facts: Sequence[str], question: str) -> str:
    """The facts, nearest first, before the question, joined by spaces (section 5 of the method).

    >>> with_facts(["A kettle is used for sailing."], "What is the red object used for?")
    'A kettle is used for sailing. What is the red object used for?'
    """
    return " ".join([*facts, question])


def with_choices(question: str, choices: Sequence[str]) -> str:
    """A multiple-choice question with its choices.

    >>> with_choices("What is it?", ["a key", "a cup"])
    'What is it? Choices: a key, a cup.'
    """
    return CHOICES.format(question=question, choices=", ".join(choices))
