"""What the columns of a row hold: texts, numbers, choices."""

from __future__ import annotations

import math
from decimal import Decimal
from reprlib import repr as short
from typing import Any

import numpy as np

from reasonedit.errors import InputError

from .rows import Row


def read_text(row: Row, *names: str, numbers: bool = False) -> str:
    """The text in the first of some columns that the row has.

    Args:
        row: The row.
        names: The columns.
        numbers: Whether a number counts as its text.

    Raises:
        InputError: There is none, or it holds no text.
    """
    for name in names:
        value = row.values.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if value is not None and not isinstance(value, str):
            if numbers:
                return as_text(value, name)
            raise InputError(f"'{name}' must be text, not {type(value).__name__}.")
    raise InputError(f"'{names[0]}' is missing or empty.")


def as_text(value: Any, name: str) -> str:
    """A text, or a number as its text: pandas makes 1.0 of a 1 where another row has none.

    Args:
        value: The text or number.
        name: The column's name.

    Raises:
        InputError: It is neither.

    >>> as_text(2.0, "answer"), as_text(2.5, "answer"), as_text("two", "answer")
    ('2', '2.5', 'two')
    """
    if isinstance(value, str):
        return value
    number = as_number(value)
    if number is not None:
        return str(int(number)) if number == int(number) else str(number)
    shown = f"{value!r}".lower() if isinstance(value, bool) else type(value).__name__
    raise InputError(f"'{name}' must be text or a number, not {shown}.")


def as_number(value: Any) -> int | float | Decimal | None:
    """A finite number, of Python or numpy; ``None`` for anything else, ``True`` and ``False`` included."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool) or not isinstance(value, (int, float, Decimal)):
        return None
    return value if isinstance(value, int) or math.isfinite(value) else None


def as_choices(value: Any) -> list[str] | None:
    """The choices in a column; ``None`` where there are none, as for an open question.

    Raises:
        InputError: It is no list of texts.
    """
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if value is None or (isinstance(value, (list, tuple, str)) and not value):
        return None
    if not isinstance(value, (list, tuple)) or not all(isinstance(c, str) or as_number(c) is not None for c in value):
        raise InputError(f"'choices' must be a list of texts, not {short(value)}.")
    return [as_text(c, "choices") for c in value]


def pick_choice(choices: Any, index: Any) -> tuple[list[str] | None, str | None]:
    """The choices of a row and the right one among them; ``None`` for what the row does not have.

    Args:
        choices: What its column of choices holds.
        index: The place of the right one, from 0.

    Raises:
        InputError: The choices are no list of texts, or the index is not that of a choice.
    """
    texts = as_choices(choices)
    if texts is None or index is None:
        return texts, None
    number = as_number(index)
    if number is None or number != int(number) or not 0 <= number < len(texts):
        raise InputError(f"The index {short(index)} names none of the {len(texts)} choices.")
    return texts, texts[int(number)]
