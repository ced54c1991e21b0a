"""A record of the journal that was damaged in one place, made again what it was; its sum proves it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_HEAD, _FOOT = b', "sum": "', b'"}'
_TAIL = len(_HEAD) + 16 + len(_FOOT)
_NEAR = 4
"""So many bytes of the sum and of what stands around it may be others: the 12 digits left are proof enough."""
_GLUED = re.compile(rb'(?<=, "sum": "[0-9a-f]{16}"\}).?(?=\{"op": ")', re.DOTALL)
"""Where two records are one line: the line's end between them is another byte, or gone."""
_BITS = [1 << n for n in range(8)]
_OTHERS = [n for n in range(1, 256) if n & (n - 1)]


@dataclass
class Effort:
    """How much may still be tried, in bytes that are summed: some ten seconds for a whole journal.

    Attributes:
        left: What is left of it.
        each: The most that one record may take.
    """

    left: int = 10**10
    each: int = 4 * 10**9

    def pays(self, cost: int) -> bool:
        """Whether there is enough left for something, which is taken off then."""
        if cost > min(self.left, self.each):
            return False
        self.left -= cost
        return True


def split_records(raw: bytes) -> list[tuple[int, bytes]]:
    """The records of a line, with where they begin in it: several, where a line's end is another byte or gone."""
    places = list(_GLUED.finditer(raw))
    starts, ends = [0, *(p.end() for p in places)], [*(p.start() for p in places), len(raw)]
    return [(start, raw[start:end]) for start, end in zip(starts, ends, strict=True)]


def correct_record(raw: bytes, sums: Collection[str], effort: Effort) -> bytes | None:
    """What a damaged record was, if one byte of it is another one, or some bytes of its sum are.

    Args:
        raw: The record as it is found, without its line's end.
        sums: What its neighbours say its sum is.
        effort: How much may still be tried.

    Returns:
        The record as it was written; none where that cannot be told.
    """
    at_once = _by_tail(raw, sums)
    if at_once is not None or len(raw) <= _TAIL:
        return at_once
    body = raw[:-_TAIL] + b"}"
    places = _places(body)
    told = {s.encode() for s in sums} | {raw[len(_HEAD) - _TAIL : -len(_FOOT)]}
    for changes in (_BITS, _OTHERS):
        # What it costs to begin a sum is that of about a thousand bytes.
        if effort.pays(len(changes) * len(places) * (1000 + len(body) // 2)):
            found = _exchanged(body, places, changes, told)
            if found is not None:
                return found
    return None


def join_lines(first: bytes, second: bytes, sums: Collection[str]) -> bytes | None:
    """The record of which one byte became a line's end, so that it is two lines; none where that is not so."""
    tries = (_by_tail(first + bytes((byte,)) + second, sums) for byte in range(256))
    return next((found for found in tries if found is not None), None)


def _by_tail(raw: bytes, sums: Collection[str]) -> bytes | None:
    """The record, where all of it but its sum is as it was written."""
    if len(raw) <= _TAIL:
        return None
    total = _sum(raw[:-_TAIL] + b"}").hexdigest()
    framed = _HEAD + total.encode() + _FOOT
    differing = sum(a != b for a, b in zip(framed, raw[-_TAIL:], strict=True))
    return raw[:-_TAIL] + framed if total in sums or differing <= _NEAR else None


def _places(body: bytes) -> range:
    """Where the exchanged byte may be: near what no record holds, where there is such; nowhere, where there is much."""
    strange = [at for at, byte in enumerate(body) if byte < ord(" ")]
    at = 0
    while not strange or max(strange) - min(strange) < _NEAR:
        try:
            body[at:].decode()
        except UnicodeDecodeError as error:
            strange.append(at + error.start)
            at += error.end
            continue
        if not strange:
            return range(len(body))
        return range(max(0, min(strange) - _NEAR), min(len(body), max(strange) + _NEAR))
    return range(0)


def _exchanged(body: bytes, places: range, changes: Sequence[int], told: Collection[bytes]) -> bytes | None:
    """Try each exchanged byte in some places; what stands before it is summed once."""
    before = _sum(body[: places.start])
    for at in places:
        behind = body[at + 1 :]
        for change in changes:
            summed = before.copy()
            summed.update(bytes((body[at] ^ change,)) + behind)
            if (total := summed.hexdigest().encode()) in told:
                return body[:at] + bytes((body[at] ^ change,)) + behind[:-1] + _HEAD + total + _FOOT
        before.update(body[at : at + 1])
    return None


def _sum(text: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(text, digest_size=8)
