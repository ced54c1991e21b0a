"""Reasoning that the VLM wrote itself, as it is or looked through by a simulated expert."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from reasonedit.data.source import EditSource, ExpectsProbes, Probe
from reasonedit.errors import InputError
from reasonedit.own_reasoning import OwnSentence, reason_for
from reasonedit.types import Edit, Query
from reasonedit.vlm import VLM
from reasonedit.wording import normalise

WAYS: Mapping[str, str] = {
    "raw": "its own chain as it is",
    "mended": "its own chain, what is wrong struck or mended",
    "doubtful": "its own chain, only what it is unsure of reviewed",
}
"""What may become of a VLM's own chain, and how tables call it."""
SURE = 0.9
"""Sentences that the VLM is at least so sure of are not reviewed where only doubtful ones are."""
_ALIKE = 0.6
"""A wrong sentence is mended where this share of the right one's words stands in it; else it is struck."""


@dataclass
class Effort:
    """What looking through chains takes.

    Attributes:
        edits: Edits.
        written: Sentences that the VLM wrote.
        read: Sentences that were looked at.
        kept: Of these, those that were right.
        mended: Those of which words were replaced.
        struck: Those that were left out.
        typed: Words typed to mend them.
        missing: Sentences of the full chain that nobody wrote, and that are not added.
        to_type: Words of the full chain, which a person without the VLM's chain would type.
        without: Edits of which no sentence was left: their answer alone is written.
    """

    edits: int = 0
    written: int = 0
    read: int = 0
    kept: int = 0
    mended: int = 0
    struck: int = 0
    typed: int = 0
    missing: int = 0
    to_type: int = 0
    without: int = 0


class OwnChains:
    """A source whose edits have the VLM's own reasons in place of the person's; questions, answers and probes stay.

    The VLM gives its reasons before any edit, for the answer that it gave then, which is wrong. The expert of
    ``mended`` and ``doubtful`` knows the right reasons, those of the source: a sentence that is one of them is right;
    one that has most of the words of another is mended into it; any other is struck. Nothing is added.

    Args:
        source: The source.
        vlm: The VLM, without edits.
        way: One of :data:`WAYS`.

    Attributes:
        efforts: What looking through the chain of each edit that was made takes.

    Raises:
        InputError: There is no such way.
    """

    def __init__(self, source: EditSource, vlm: VLM, way: str) -> None:
        if way not in WAYS:
            raise InputError(f"way must be one of {', '.join(WAYS)}, not '{way}'.")
        self.source, self.vlm, self.way = source, vlm, way
        self.edits = source.edits
        self.efforts: dict[str, Effort] = {}

    def candidates(self) -> Iterator[Edit]:
        """The source's samples with the VLM's reasons."""
        for edit in self.source.candidates():
            own = reason_for(self.vlm, Query(edit.image, edit.question, edit.choices)).sentences
            sentences, effort = self._look_through(own, edit.reasoning)
            self.efforts[edit.id] = effort
            yield replace(edit, reasoning=sentences or [edit.answer_fact], evidence=())

    def _look_through(self, own: Sequence[OwnSentence], chain: Sequence[str]) -> tuple[list[str], Effort]:
        if self.way == "raw":
            kept = [sentence.text for sentence in own]
            effort = Effort(edits=1, written=len(own), to_type=_count_words(chain), without=int(not own))
            effort.missing = len(_unsaid(own, chain))
            return kept, effort
        below = SURE if self.way == "doubtful" else None
        return look_through(own, chain, below)

    def probes(self, edits: Sequence[Edit], right: Sequence[str] = ()) -> list[Probe]:
        """The source's own."""
        return self.source.probes(edits, right)

    def expected_probes(self, edit_ids: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
        """The source's own."""
        return self.source.expected_probes(edit_ids) if isinstance(self.source, ExpectsProbes) else {}


def look_through(
    own: Sequence[OwnSentence], chain: Sequence[str], below: float | None = None
) -> tuple[list[str], Effort]:
    """Strike or mend what is wrong in a VLM's own chain.

    >>> own = [OwnSentence("The object is a kettle.", 0.9), OwnSentence("A kettle is used for boiling.", 0.2)]
    >>> sentences, effort = look_through(own, ["The object is a kettle.", "A kettle is used for music."])
    >>> sentences, effort.kept, effort.mended, effort.typed
    (['The object is a kettle.', 'A kettle is used for music.'], 1, 1, 1)

    Args:
        own: Its sentences.
        chain: The right ones.
        below: Only sentences of which the VLM is less sure than this are looked at; all when not given.

    Returns:
        What is left, and the effort.
    """
    effort = Effort(edits=1, written=len(own), to_type=_count_words(chain))
    left, open_ones = [], _unsaid(own, chain)  # a right sentence is no wrong form of another
    right = {normalise(sentence) for sentence in chain}
    for sentence in own:
        if below is not None and sentence.confidence is not None and sentence.confidence >= below:
            left.append(sentence.text)
            continue
        effort.read += 1
        if normalise(sentence.text) in right:
            effort.kept += 1
            left.append(sentence.text)
            continue
        meant = max(open_ones, key=lambda name: _share(open_ones[name], sentence.text), default=None)
        if meant is not None and _share(open_ones[meant], sentence.text) >= _ALIKE:
            mended = open_ones.pop(meant)
            effort.mended += 1
            effort.typed += (Counter(_words(mended)) - Counter(_words(sentence.text))).total()
            left.append(mended)
        else:
            effort.struck += 1
    effort.missing = len(open_ones)
    effort.without = int(not left)
    return left, effort


def _unsaid(own: Sequence[OwnSentence], chain: Sequence[str]) -> dict[str, str]:
    """The sentences of a chain that are not among its own, by how they compare."""
    said = {normalise(sentence.text) for sentence in own}
    return {name: sentence for sentence in chain if (name := normalise(sentence)) not in said}


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _count_words(chain: Sequence[str]) -> int:
    return sum(len(_words(sentence)) for sentence in chain)


def _share(right: str, said: str) -> float:
    """The share of the right sentence's words that stand in what was said."""
    words = set(_words(right))
    return len(words & set(_words(said))) / len(words) if words else 0.0
