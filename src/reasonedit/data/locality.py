"""Which samples of a data set ask whether unrelated knowledge stays: some at random, and the most similar ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from reasonedit.types import Edit

from .sample import Sample


def find_unrelated(samples: Mapping[str, Sample], edits: Sequence[Edit], right: Sequence[str]) -> list[str]:
    """Ids of samples that share neither image nor question with an edit.

    Args:
        samples: All samples by their ids.
        edits: The edits, each made of the sample of its id.
        right: Ids of the samples to choose from, such as those that the unedited model got right.
    """
    images = {samples[edit.id].image for edit in edits}
    questions = {edit.question.casefold() for edit in edits}
    return [
        name
        for name in right
        if (sample := samples[name]).image not in images and sample.question.strip().casefold() not in questions
    ]


def find_similar(
    samples: Mapping[str, Sample], edits: Sequence[Edit], unrelated: Sequence[str], count: int, encoder: str
) -> dict[str, list[str]]:
    """For each edit the unrelated samples whose questions are the most similar to its own.

    Args:
        samples: All samples by their ids.
        edits: The edits.
        unrelated: Ids of the samples to choose from.
        count: How many per edit.
        encoder: Name of the sentence encoder that compares questions.

    Returns:
        Ids of samples by the edits' ids, the most similar first.
    """
    if not unrelated:
        return {edit.id: [] for edit in edits}
    from reasonedit.embedding import SentenceEncoder

    sentences = SentenceEncoder.from_pretrained(encoder)
    of_edits = sentences.encode([edit.question for edit in edits])
    of_samples = sentences.encode([samples[name].question for name in unrelated])
    nearest = (of_edits @ of_samples.T).topk(min(count, len(unrelated)), dim=1).indices.tolist()
    return {edit.id: [unrelated[i] for i in places] for edit, places in zip(edits, nearest, strict=True)}


def find_by_words(question: str, others: Mapping[str, str], count: int) -> list[str]:
    """The questions that share the most words with one, by which the paper's authors choose hard locality.

    Overlap is the share of common words among all words of both (Jaccard), without case and punctuation. The authors'
    code takes their share of the edit's words, by which a longer question is as near, and leaves out a question that
    has all of them.

    >>> find_by_words("What is the red cup?", {"a": "Who sings?", "b": "What is the red hat?", "c": "what is it"}, 2)
    ['b', 'c']

    Args:
        question: The question.
        others: Questions by their names.
        count: How many.

    Returns:
        Names, those with the most overlap first; of equals those that come first in ``others``.
    """
    words = _words(question)
    overlaps = {}
    for name, other in others.items():
        theirs = _words(other)
        overlaps[name] = len(words & theirs) / max(1, len(words | theirs))
    return sorted(overlaps, key=lambda name: -overlaps[name])[:count]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
