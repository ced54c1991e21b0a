"""Finds the bit of a file that was flipped: its CRC-32 says where."""

from __future__ import annotations

import zlib

from ..disk.checksums import BLOCK, Checksums

_POLYNOMIAL = 0xEDB88320  # of CRC-32 (IEEE 802.3), its bits reversed


def _remainder(byte: int) -> int:
    """What a byte becomes in the register of the sum."""
    for _ in range(8):
        byte = (byte >> 1) ^ (_POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = [_remainder(byte) for byte in range(256)]
_BEFORE = {value >> 24: byte for byte, value in enumerate(_TABLE)}
"""By the highest byte of each value of the table, which no two share, where it stands."""
_LAST = {_TABLE[1 << bit]: bit for bit in range(8)}
"""How sums differ whose last byte differs in one bit, and in which."""


def correct_bit(data: bytes, sums: Checksums) -> bytes | None:
    """Correct content of which one bit was flipped.

    CRC-32 is linear: how far a sum is off depends on which bit it is and on how many bytes come behind, not on these.
    From there one byte after the other is gone back, until the difference is that of a bit in the last byte. Of content
    that was damaged otherwise one in 500 is taken for such: prove what comes back by another sum.

    Args:
        data: The content as it is.
        sums: Those of the content as it was.

    Returns:
        The content as it was; none where it is not one bit that differs.
    """
    starts = range(0, len(data), BLOCK)
    if len(data) != sums.bytes:
        return None
    off = [zlib.crc32(data[at : at + BLOCK]) ^ block for at, block in zip(starts, sums.blocks, strict=True)]
    wrong = [number for number, difference in enumerate(off) if difference]
    if len(wrong) != 1:
        return None
    start, difference = starts[wrong[0]], off[wrong[0]]
    for at in range(min(start + BLOCK, len(data)) - 1, start - 1, -1):
        if difference in _LAST:
            return data[:at] + bytes((data[at] ^ (1 << _LAST[difference]),)) + data[at + 1 :]
        byte = _BEFORE[difference >> 24]
        difference = ((difference ^ _TABLE[byte]) << 8 | byte) & 0xFFFFFFFF
    return None
