"""Splitting a text that is longer than a model reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def split_evenly(text: str, room: int, count_tokens: Callable[[str], int]) -> list[str]:
    """Split a text between words into as few parts of about equal length as fit.

    A word that is longer than a part is cut between characters.

    Args:
        text: The text.
        room: The most tokens of a part.
        count_tokens: Says how many tokens a text has.
    """
    units = _split_units(text, room, count_tokens)
    sizes = [count_tokens(unit) for unit in units]
    count = -(-sum(sizes) // room)
    while True:
        parts = _join_units(units, sizes, count)
        if all(count_tokens(part) <= room for part in parts):
            return parts
        if count >= len(units):
            return units
        count += 1


def _split_units(text: str, room: int, count_tokens: Callable[[str], int]) -> list[str]:
    """What goes into one part whole: words, and pieces of a word that is longer than a part."""
    units: list[str] = []
    for word in text.split():
        rest = word
        while count_tokens(rest) > room and len(rest) > 1:
            end = len(rest)
            while end > 1 and count_tokens(rest[:end]) > room:
                end = max(1, end // 2)
            units.append(rest[:end])
            rest = rest[end:]
        units.append(rest)
    return units


def _join_units(units: Sequence[str], sizes: Sequence[int], count: int) -> list[str]:
    """Join units, in order, to so many parts of about the same size."""
    total, done = sum(sizes), 0
    parts: list[list[str]] = [[] for _ in range(count)]
    for unit, size in zip(units, sizes, strict=True):
        middle = done + size / 2
        parts[min(count - 1, int(middle * count / max(1, total)))].append(unit)
        done += size
    return [" ".join(part) for part in parts if part]
