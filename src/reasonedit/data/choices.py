"""Choices of a question as RationaleVQA publishes them, in one text each."""

from __future__ import annotations

import ast
import re
from reprlib import repr as short
from typing import Any

from reasonedit.errors import ReasonEditError

from .pool import choices_of, number_in, text_of
from .rows import Row

_LINE = re.compile(r"\(?([A-Z])[).:]\s*(\S.*)")
_LETTER = re.compile(r"\(?([A-Z])[).:]?")


def right_choice(row: Row) -> tuple[list[str] | None, str]:
    """The choices of a row, and its right answer.

    ``choices`` is a list, or one text with ``;`` between, or lettered lines (``(A) kettle``), or nothing for an open
    question; ``idx_choices`` the same as lettered lines, or the number (from 0) or letter of the right one. ``answer``
    is the right one, as it stands or by its letter. What two of these say must agree.

    Raises:
        ReasonEditError: They do not, or there is no answer.
    """
    choices, place = listed(row.values.get("choices")), None
    index = row.values.get("idx_choices")
    lines = lettered("\n".join(index) if isinstance(index, (list, tuple)) and _texts(index) else index)
    if lines is None:
        place = _place(index)
    elif choices is None or [c.casefold() for c in _cut("; ".join(lines))] == [c.casefold() for c in choices]:
        choices = lines  # they alone tell a choice with a semicolon in it from two
    elif sorted(c.casefold() for c in lines) != sorted(c.casefold() for c in choices):
        raise ReasonEditError(
            f"'choices' and 'idx_choices' do not say the same: {len(choices)} and {len(lines)} choices, the first that "
            f"differs is {_first_difference(choices, lines)}."
        )
    if choices is None:
        return None, text_of(row, "answer", numbers=True)
    if place is not None and place >= len(choices):
        raise ReasonEditError(f"'idx_choices' names choice {place} (from 0), but there are {len(choices)}.")
    if place is not None and row.values.get("answer") in (None, ""):
        return choices, choices[place]
    answer = _among(choices, text_of(row, "answer", numbers=True).strip())
    if place is not None and choices[place].casefold() != answer.casefold():
        raise ReasonEditError(f"'answer' is '{answer}', but 'idx_choices' names '{choices[place]}'.")
    return choices, answer


def listed(value: Any) -> list[str] | None:
    r"""The choices in one column.

    Raises:
        ReasonEditError: It holds something else.

    >>> listed("kettle; tea cup"), listed("(A) kettle\n(B) tea; cup"), listed("")
    (['kettle', 'tea cup'], ['kettle', 'tea; cup'], None)
    """
    if not isinstance(value, str):
        return choices_of(value)
    if not value.strip():
        return None
    if value.lstrip().startswith("["):  # a CSV file has a list as text
        try:
            return choices_of(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise ReasonEditError(f"'choices' is no list: {short(value)}.") from error
    return lettered(value) or _cut(value)


def lettered(value: Any) -> list[str] | None:
    """The choices in lines that begin with (A), (B), …; ``None`` where it is anything else."""
    lines = [line.strip() for line in value.splitlines() if line.strip()] if isinstance(value, str) else []
    found = [_LINE.fullmatch(line) for line in lines]
    letters = [chr(ord("A") + i) for i in range(len(lines))]
    kept = [match[2].strip() for match, letter in zip(found, letters, strict=True) if match and match[1] == letter]
    return kept if lines and len(kept) == len(lines) else None


def _cut(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(line, str) for line in value)


def _place(index: Any) -> int | None:
    """The place that a number or a letter names."""
    if index is None or (isinstance(index, str) and not index.strip()):
        return None
    text = index.strip() if isinstance(index, str) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else number_in(index)
    if number is not None and number >= 0 and number == int(number):
        return int(number)
    letter = _LETTER.fullmatch(text.upper())
    if letter is None:
        raise ReasonEditError(
            f"'idx_choices' is neither lettered lines nor the number or letter of one: {short(index)}."
        )
    return ord(letter[1]) - ord("A")


def _among(choices: list[str], answer: str) -> str:
    """The choice that an answer names, else the answer as it is."""
    for said in (answer, (_LINE.fullmatch(answer) or [""] * 3)[2]):
        same = next((c for c in choices if c.casefold() == said.casefold()), None)
        if same is not None:
            return same
    letter = _LETTER.fullmatch(answer)
    place = ord(letter[1]) - ord("A") if letter else len(choices)
    return choices[place] if place < len(choices) else answer


def _first_difference(one: list[str], two: list[str]) -> str:
    count = min(len(one), len(two))
    at = next((i for i in range(count) if one[i].casefold() != two[i].casefold()), count)
    return f"'{(one[at:] or two[at:])[0]}'"
