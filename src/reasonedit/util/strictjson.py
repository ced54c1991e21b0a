"""JSON that somebody else wrote, read strictly and within bounds."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

DEEPEST = 40
"""Lists and objects within each other; what is read here has less than ten."""

MOST_VALUES = 2_000_000
"""Commas, lists and objects, those in texts included: a value takes up to a hundred bytes of memory."""

_MOST_DIGITS = 300
"""Of a whole number: what a float can hold, too."""


def strict_json(text: str, most: int = MOST_VALUES) -> Any:
    """What JSON says.

    Args:
        text: The JSON.
        most: How many values it may hold.

    Raises:
        ValueError: It is no JSON, nested too deeply, or has a key twice in an object, or a number that is none or that
            nothing can hold, or too many values; in words.
    """
    opening = text.count("[") + text.count("{")
    if opening + text.count(",") > most:
        raise ValueError(f"more than {most:,} values")
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_number, parse_int=_whole
        )
    except json.JSONDecodeError as error:
        line = f"line {error.lineno}, " if error.lineno > 1 else ""
        raise ValueError(f"not JSON ({error.msg} at {line}character {error.colno})") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if opening > DEEPEST and _is_deeper(value, DEEPEST):
        raise ValueError("nested too deeply")
    return value


def _is_deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most):
        held = (v.values() if isinstance(v, dict) else v for v in level if isinstance(v, (dict, list)))
        level = [inner for inside in held for inner in inside]
        if not level:
            return False
    return any(isinstance(v, (dict, list)) for v in level)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ValueError(f"the key '{twice[:80]}' appears twice in one object: keep one of them")
    return values


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not a number of JSON: write null where there is none")


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:80]} is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text)} digits is too large")
    return int(text)
