"""Which samples of a data set ask whether unrelated knowledge stays: some at random, and the most similar ones."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

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


class WordIndex:
    """Finds the questions that share the most words with another, by which the paper's authors choose hard locality.

    Overlap is the share of common words among all words of both (Jaccard), without case and punctuation. The authors'
    code takes their share of the edit's words, by which a longer question is as near, and leaves out a question that
    has all of them.

    >>> WordIndex({"a": "Who sings?", "b": "What is the red hat?", "c": "what is it"}).find("What is the red cup?", 2)
    ['b', 'c']

    Args:
        questions: Questions by their names.
    """

    def __init__(self, questions: Mapping[str, str]) -> None:
        self._names = list(questions)
        words = [_words(question) for question in questions.values()]
        self._lengths = np.array([len(of_question) for of_question in words], dtype=np.int64)
        places: dict[str, list[int]] = {}
        for place, of_question in enumerate(words):
            for word in of_question:
                places.setdefault(word, []).append(place)
        self._places = {word: np.array(of_word) for word, of_word in places.items()}

    def find(self, question: str, count: int) -> list[str]:
        """The names of the questions with the most overlap, the most first; of equals those that come first.

        Args:
            question: The question.
            count: How many.
        """
        words = _words(question)
        common = np.zeros(len(self._names), dtype=np.int64)
        for word in words & self._places.keys():
            common[self._places[word]] += 1
        overlap = common / np.maximum(1, self._lengths + len(words) - common)
        return [self._names[place] for place in np.argsort(-overlap, kind="stable")[:count].tolist()]


def _words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.casefold()))
