"""Corrects a record of the journal that was damaged in one place; its sum proves what it was."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

_HEAD, _FOOT = b', "sum": "', b'"}'
_TAIL = len(_HEAD) + 16 + len(_FOOT)
_NEAR = 4
"""So many bytes of the tail (the sum and what is around it) may differ: the 12 digits left are proof enough."""
_GLUED = re.compile(rb'(?<=, "sum": "[0-9a-f]{16}"\}).?(?=\{"op": ")', re.DOTALL)
"""Where two records are in one line: the line's end between them is another byte, or gone."""
_BITS = [1 << n for n in range(8)]
_OTHERS = [n for n in range(1, 256) if n & (n - 1)]


@dataclass
class Effort:
    """How much may still be tried, in bytes that are summed: about ten seconds for a whole journal.

    Attributes:
        remaining: How much is left for all records.
        per_record: The most that one record may take.
    """

    remaining: int = 10**10
    per_record: int = 4 * 10**9

    def spend(self, cost: int) -> bool:
        """Take off what something costs, if there is enough left; whether there was."""
        if cost > min(self.remaining, self.per_record):
            return False
        self.remaining -= cost
        return True


def split_records(raw: bytes) -> list[tuple[int, bytes]]:
    """The records of a line and where each begins in it: several, where a line's end is another byte or gone."""
    gaps = list(_GLUED.finditer(raw))
    starts, ends = [0, *(gap.end() for gap in gaps)], [*(gap.start() for gap in gaps), len(raw)]
    return [(start, raw[start:end]) for start, end in zip(starts, ends, strict=True)]


def correct_record(raw: bytes, sums: Collection[str], effort: Effort) -> bytes | None:
    """Correct a damaged record of which one byte was exchanged, or some bytes of its sum.

    Args:
        raw: The record as it is, without its line's end.
        sums: What its neighbours say its sum is.
        effort: How much may still be tried.

    Returns:
        The record as it was written; none where that cannot be proven.
    """
    corrected = _correct_tail(raw, sums)
    if corrected is not None or len(raw) <= _TAIL:
        return corrected
    body = raw[:-_TAIL] + b"}"
    places = _suspect_places(body)
    proofs = {s.encode() for s in sums} | {raw[len(_HEAD) - _TAIL : -len(_FOOT)]}
    for changes in (_BITS, _OTHERS):
        # To begin a sum costs as much as to sum about a thousand bytes.
        if effort.spend(len(changes) * len(places) * (1000 + len(body) // 2)):
            corrected = _try_changes(body, places, changes, proofs)
            if corrected is not None:
                return corrected
    return None


def join_lines(first: bytes, second: bytes, sums: Collection[str]) -> bytes | None:
    """The record of which one byte became a line's end, so that it is two lines; none where that is not proven."""
    tries = (_correct_tail(first + bytes((byte,)) + second, sums) for byte in range(256))
    return next((record for record in tries if record is not None), None)


def _correct_tail(raw: bytes, sums: Collection[str]) -> bytes | None:
    """The record, if all of it but its tail is as it was written."""
    if len(raw) <= _TAIL:
        return None
    digits = _sum(raw[:-_TAIL] + b"}").hexdigest()
    tail = _HEAD + digits.encode() + _FOOT
    differing = sum(a != b for a, b in zip(tail, raw[-_TAIL:], strict=True))
    return raw[:-_TAIL] + tail if digits in sums or differing <= _NEAR else None


def _suspect_places(body: bytes) -> range:
    """Where the exchanged byte may be: near the bytes that no record holds, or anywhere where there are none.

    Nowhere, if such bytes are far from each other: then more than one byte was exchanged.
    """
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


def _try_changes(body: bytes, places: range, changes: Sequence[int], proofs: Collection[bytes]) -> bytes | None:
    """Exchange each byte of some places in turn; what is before it is summed only once."""
    before = _sum(body[: places.start])
    for at in places:
        behind = body[at + 1 :]
        for change in changes:
            byte, trial = bytes((body[at] ^ change,)), before.copy()
            trial.update(byte + behind)
            if (digits := trial.hexdigest().encode()) in proofs:
                return body[:at] + byte + behind[:-1] + _HEAD + digits + _FOOT
        before.update(body[at : at + 1])
    return None


def _sum(text: bytes) -> hashlib.blake2b:
    return hashlib.blake2b(text, digest_size=8)
