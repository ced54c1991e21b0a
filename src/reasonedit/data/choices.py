"""Choices of a question as RationaleVQA publishes them, in one text each."""

from __future__ import annotations

import ast
import re
from reprlib import repr as short
from typing import Any

from reasonedit.errors import InputError

from .columns import as_choices, as_number, read_text
from .rows import Row

_LINE = re.compile(r"\(?([A-Z])[).:]\s*(\S.*)")
_LETTER = re.compile(r"\(?([A-Z])[).:]?")


def right_choice(row: Row) -> tuple[list[str] | None, str]:
    """The choices of a row, and its right answer.

    ``choices`` is a list, or one text with ``;`` between, or lettered lines (``(A) kettle``), or nothing for an open
    question. ``idx_choices`` are the choices as lettered lines, or the number (from 0) or letter of the right one.
    ``answer`` is the right one, as it stands or by its letter. What two of these say must agree.

    Raises:
        InputError: They do not agree, or there is no answer.
    """
    choices, right = parse_choices(row.values.get("choices")), None
    index = row.values.get("idx_choices")
    lines = parse_lettered("\n".join(index) if isinstance(index, (list, tuple)) and _is_texts(index) else index)
    if lines is None:
        right = _index_of(index)
    elif choices is None or [c.casefold() for c in _split_at_semicolons("; ".join(lines))] == [
        c.casefold() for c in choices
    ]:
        choices = lines  # they alone tell a choice with a semicolon in it from two
    elif sorted(c.casefold() for c in lines) != sorted(c.casefold() for c in choices):
        raise InputError(
            f"'choices' and 'idx_choices' do not say the same: {len(choices)} and {len(lines)} choices, the first that "
            f"differs is {_first_difference(choices, lines)}."
        )
    if choices is None:
        return None, read_text(row, "answer", numbers=True)
    if right is not None and right >= len(choices):
        raise InputError(f"'idx_choices' names choice {right} (from 0), but there are {len(choices)}.")
    if right is not None and row.values.get("answer") in (None, ""):
        return choices, choices[right]
    answer = _match_choice(choices, read_text(row, "answer", numbers=True).strip())
    if right is not None and choices[right].casefold() != answer.casefold():
        raise InputError(f"'answer' is '{answer}', but 'idx_choices' names '{choices[right]}'.")
    return choices, answer


def parse_choices(value: Any) -> list[str] | None:
    r"""The choices in one column.

    Raises:
        InputError: It holds something else.

    >>> parse_choices("kettle; tea cup"), parse_choices("(A) kettle\n(B) tea; cup"), parse_choices("")
    (['kettle', 'tea cup'], ['kettle', 'tea; cup'], None)
    """
    if not isinstance(value, str):
        return as_choices(value)
    if not value.strip():
        return None
    if value.lstrip().startswith("["):  # a CSV file has a list as text
        try:
            return as_choices(ast.literal_eval(value.strip()))
        except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
            raise InputError(f"'choices' is not a list: {short(value)}.") from error
    return parse_lettered(value) or _split_at_semicolons(value)


def parse_lettered(value: Any) -> list[str] | None:
    """The choices in lines that begin with (A), (B), …; ``None`` where it is anything else."""
    lines = [line.strip() for line in value.splitlines() if line.strip()] if isinstance(value, str) else []
    matches = [_LINE.fullmatch(line) for line in lines]
    letters = [chr(ord("A") + i) for i in range(len(lines))]
    texts = [match[2].strip() for match, letter in zip(matches, letters, strict=True) if match and match[1] == letter]
    return texts if lines and len(texts) == len(lines) else None


def _split_at_semicolons(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _is_texts(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and bool(value) and all(isinstance(line, str) for line in value)


def _index_of(index: Any) -> int | None:
    """The index (from 0) that a number or a letter names; ``None`` where there is none."""
    if index is None or (isinstance(index, str) and not index.strip()):
        return None
    text = index.strip() if isinstance(index, str) else ""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 4 else as_number(index)
    if number is not None and number >= 0 and number == int(number):
        return int(number)
    letter = _LETTER.fullmatch(text.upper())
    if letter is None:
        raise InputError(f"'idx_choices' is neither lettered lines nor the number or letter of one: {short(index)}.")
    return ord(letter[1]) - ord("A")


def _match_choice(choices: list[str], answer: str) -> str:
    """The choice that an answer names, else the answer as it is."""
    for text in (answer, (_LINE.fullmatch(answer) or [""] * 3)[2]):
        same = next((c for c in choices if c.casefold() == text.casefold()), None)
        if same is not None:
            return same
    letter = _LETTER.fullmatch(answer)
    place = ord(letter[1]) - ord("A") if letter else len(choices)
    return choices[place] if place < len(choices) else answer


def _first_difference(first: list[str], second: list[str]) -> str:
    count = min(len(first), len(second))
    at = next((i for i in range(count) if first[i].casefold() != second[i].casefold()), count)
    return f"'{(first[at:] or second[at:])[0]}'"
