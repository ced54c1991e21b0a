"""What sentences speak of: their content words, and the place that they name."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ACROSS = {"left": 0.0, "right": 1.0}
_DOWN = {"top": 0.0, "upper": 0.0, "bottom": 1.0, "lower": 1.0}
_MIDDLE = frozenset({"center", "centre", "middle"})
_RELATIVE = re.compile(
    r"\b(left|right|top|bottom|center|centre|middle)( (side|corner|part|edge|end|half|third|hand|area))? (of|from)\b"
    r"|\bnext to\b|\bbeside\b"
)
"""A place that is told from another thing's, as in "left of the tree"."""
_OF_PICTURE = re.compile(r"\b(of|from) (the|this) (image|picture|photo|photograph|scene|frame)\b")
_ANYTHING = frozenset({"image", "object", "photo", "photograph", "picture", "thing"})
"""Words that fit whatever a picture shows: to share them says nothing."""
_CHINESE_JAPANESE = "\u3005\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
_THAI_LAO_BURMESE_KHMER = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
_PARTS = re.compile(
    f"([{_CHINESE_JAPANESE}]+)|([{_THAI_LAO_BURMESE_KHMER}]+)|([^{_CHINESE_JAPANESE}{_THAI_LAO_BURMESE_KHMER}]+)"
)


@lru_cache(maxsize=65536)
def content_words(text: str) -> frozenset[str]:
    """The words of a text that tell what it speaks of, in lower case: no function words, places or words for anything.

    >>> sorted(content_words("The object on the left lies in the east."))
    ['east', 'lies']
    """
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    # Vowel signs are marks, which \w does not match; and a letter may be written with its mark, or the two apart.
    letters = unicodedata.normalize("NFC", text.lower())
    spaced = "".join(c if c.isalnum() or c == "_" or unicodedata.category(c)[0] == "M" else " " for c in letters)
    words = (word for run in spaced.split() for word in _words_in(run))
    return frozenset(words).difference(ENGLISH_STOP_WORDS, _ANYTHING, _ACROSS, _DOWN, _MIDDLE)


def _words_in(run: str) -> list[str]:
    """The words of a text without spaces.

    In scripts that put none between words every two neighbouring letters count as one, or every three, as text search
    has it (Lucene's CJKAnalyzer): a word that two sentences share is found wherever it stands in them.
    """
    words: list[str] = []
    for in_twos, in_threes, word in _PARTS.findall(run):
        letters, size = (in_twos, 2) if in_twos else (in_threes, 3)
        words += [letters[i : i + size] for i in range(max(1, len(letters) - size + 1))] if letters else []
        words += [word] if len(word) > 1 else []
    return words


def named_place(sentence: str) -> tuple[float, float] | None:
    """The place in the picture that a sentence names, in English words.

    Args:
        sentence: The sentence.

    Returns:
        The middle of that third of the picture, across and down, as shares of its sides; ``None`` where no place is
        named, or only one that is told from another thing's.

    >>> named_place("The object at the top left is a zither."), named_place("It stands next to the tree.")
    ((0.16666666666666666, 0.16666666666666666), None)
    """
    text = _OF_PICTURE.sub("", sentence.lower())
    if _RELATIVE.search(text):
        return None
    words = re.findall(r"[a-z]+", text)
    across = [_ACROSS[w] for w in words if w in _ACROSS]
    down = [_DOWN[w] for w in words if w in _DOWN]
    if len(set(across)) > 1 or len(set(down)) > 1 or not (across or down or _MIDDLE.intersection(words)):
        return None
    return _middle_of_third(across[0] if across else 0.5), _middle_of_third(down[0] if down else 0.5)


def _middle_of_third(side: float) -> float:
    return (1 + 4 * side) / 6
