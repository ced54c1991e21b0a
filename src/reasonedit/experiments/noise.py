"""Reasoning that is not as it should be: sentences that are irrelevant, missing, false, vague or misspelt."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from reasonedit.boxes import Region
from reasonedit.data.source import EditSource, ExpectsProbes, Probe
from reasonedit.errors import InputError
from reasonedit.metrics import matches
from reasonedit.types import Edit

KINDS: Mapping[str, str] = {
    "replaced": "sentences irrelevant",
    "mixed": "sentences followed by irrelevant ones",
    "missing": "sentences missing",
    "false": "sentences false",
    "vague": "sentences vague",
    "misspelt": "sentences misspelt",
}
"""What may be done to reasoning, and how tables call it."""

_LENDERS = 50  # samples whose sentences and words are put in the place of others'
_LAST = re.compile(
    r"^(?P<start>.*?)(?P<before>\S+\s+\S+|\S+)(?P<space>\s+)(?P<last>[^\s.!?]+)(?P<end>[.!?]*)$", re.DOTALL
)
"""A sentence as its last word, the two words before it, and the rest."""
_ARTICLE_AT_END = re.compile(r"(?<!\S)(?:an?|the)\s+$", re.IGNORECASE)
_TYPOS_IN = 0.5
"""Share of the longer words of a misspelt sentence that have a wrong letter; there is one at least."""
_LONG_WORD = re.compile(r"[^\W\d_]{4,}")

_Sentence = tuple[str, Sequence[Region] | None]  # with its evidence


class NoisyReasoning:
    """A source of edits whose reasoning is spoilt; its questions, answers and probes stay.

    - ``"replaced"``: a sentence gives way to one of another sample;
    - ``"mixed"``: such a sentence is put behind one;
    - ``"missing"``: a sentence is left out, but never the last one that is left;
    - ``"false"``: its last word, which in these data sets says what the sentence is there to say, gives way to the last
      word of another sentence that stands behind the same two words ("A kettle is used for [boiling] → [music].");
      where there is none the sentence gives way to one of another sample;
    - ``"vague"``: that word gives way to "something";
    - ``"misspelt"``: half of its longer words have two letters swapped, or one dropped or doubled.

    Args:
        source: The source.
        kind: One of these.
        share: The share of the sentences that is spoilt.
        seed: Seed of what is spoilt.

    Attributes:
        spoilt: For each edit that was made, which of its sentences are spoilt (of ``"mixed"`` those that were put in).

    Raises:
        InputError: ``kind`` or ``share`` is out of range.
    """

    def __init__(self, source: EditSource, kind: str, share: float, seed: int = 0) -> None:
        if kind not in KINDS:
            raise InputError(f"kind must be one of {', '.join(KINDS)}, not '{kind}'.")
        if not 0 <= share <= 1:
            raise InputError(f"share must be between 0 and 1, not {share}.")
        self.source, self.kind, self.share, self.seed = source, kind, share, seed
        self.edits = source.edits
        self.spoilt: dict[str, list[bool]] = {}

    def candidates(self) -> Iterator[Edit]:
        """The source's samples with their reasoning spoilt."""
        lenders = list(islice(self.source.candidates(), _LENDERS))
        for edit in self.source.candidates():
            rng = random.Random(f"noise-{self.kind}-{self.seed}-{edit.id}")
            others = [e for e in lenders if e.id != edit.id and not matches(e.answer, edit.targets)] or [edit]
            sentences = list(zip(edit.reasoning, edit.evidence, strict=True))
            spoilt = self._spoil(rng, sentences, [s for other in others for s in other.reasoning])
            self.spoilt[edit.id] = [is_spoilt for _, is_spoilt in spoilt]
            yield replace(edit, reasoning=[s for (s, _), _ in spoilt], evidence=[e for (_, e), _ in spoilt])

    def _spoil(
        self, rng: random.Random, sentences: Sequence[_Sentence], others: Sequence[str]
    ) -> list[tuple[_Sentence, bool]]:
        """The sentences as they become, each with whether it is spoilt."""
        chosen = [rng.random() < self.share for _ in sentences]
        if self.kind == "missing":
            left = [own for own, gone in zip(sentences, chosen, strict=True) if not gone]
            return [(own, False) for own in left or [rng.choice(sentences)]]  # an edit without reasoning is refused
        made: list[tuple[_Sentence, bool]] = []
        for (text, evidence), is_chosen in zip(sentences, chosen, strict=True):
            if not is_chosen:
                made.append(((text, evidence), False))
            elif self.kind == "replaced":
                other = _other_than(rng, text, others)
                made.append(((other, []), other != text))
            elif self.kind == "mixed":
                made += [((text, evidence), False), ((_other_than(rng, text, others), []), True)]
            else:
                change = {"false": _falsify, "vague": _blur, "misspelt": _misspell}[self.kind]
                spoilt = change(rng, text, others)
                made.append(((spoilt, evidence), spoilt != text))  # nothing is wrong in "7 + 1 = 8." that has no letter
        return made

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The source's own."""
        return self.source.probes(edits, right)

    def expected_probes(self, edit_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """The source's own."""
        return self.source.expected_probes(edit_ids) if isinstance(self.source, ExpectsProbes) else {}


def _other_than(rng: random.Random, text: str, others: Sequence[str]) -> str:
    return rng.choice([other for other in others if other != text] or [text])


def _falsify(rng: random.Random, text: str, others: Sequence[str]) -> str:
    """The sentence with the last word of another, which stands behind the same word."""
    parts = _LAST.match(text)
    if parts is None:
        return _other_than(rng, text, others)
    own, place = parts["last"].casefold(), _place_of(parts)
    words = {
        (other["before"], other["last"])
        for other in filter(None, map(_LAST.match, others))
        if _place_of(other) == place and other["last"].casefold() != own
    }
    if not words:
        return _other_than(rng, text, others)
    before, word = rng.choice(sorted(words))  # "is a" and "is an" come with their words
    return f"{parts['start']}{before}{parts['space']}{word}{parts['end']}"


def _place_of(parts: re.Match[str]) -> str:
    """What a sentence's last word stands behind, by which words are of one sort."""
    return re.sub(r"\ban\b", "a", " ".join(parts["before"].casefold().split()))


def _blur(_: random.Random, text: str, __: Sequence[str]) -> str:
    """The sentence with "something" for its last word."""
    parts = _LAST.match(text)
    if parts is None:
        return "It is something."
    before = _ARTICLE_AT_END.sub("", f"{parts['start']}{parts['before']}{parts['space']}")
    return f"{before}something{parts['end']}"


def _misspell(rng: random.Random, text: str, _: Sequence[str]) -> str:
    """The sentence with a wrong letter in some of its longer words; their first letters stay."""
    words = list(_LONG_WORD.finditer(text)) or list(re.finditer(r"[^\W\d_]{2,}", text))
    chosen = [word for word in words if rng.random() < _TYPOS_IN] or rng.sample(words, min(1, len(words)))
    for word in reversed(chosen):
        text = text[: word.start()] + _mistype(rng, word[0]) + text[word.end() :]
    return text


def _mistype(rng: random.Random, word: str) -> str:
    """A word of two letters or more with two letters swapped, or one dropped or doubled."""
    places = [i for i in range(1, len(word) - 1) if word[i] != word[i + 1]]
    how = rng.choice(("swap", "drop", "double")) if places else "double"
    if how == "swap":
        i = rng.choice(places)
        return word[:i] + word[i + 1] + word[i] + word[i + 2 :]
    i = rng.randrange(1, len(word))
    return word[:i] + (word[i] * 2 if how == "double" else "") + word[i + 1 :]
