"""YAML that somebody else wrote, within bounds: aliases can make a small text more than any memory holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import yaml

DEEPEST = 50
"""Lists and mappings within each other."""

MOST_VALUES = 100_000
"""Values, those that an alias repeats included."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def bounded_yaml(text: str) -> Any:
    """What YAML says.

    Raises:
        ValueError: It is no YAML, has a key twice in a mapping, or is nested too deeply or too large; in words.
    """
    try:
        _check_size(text)
        root = yaml.compose(text, Loader=_LOADER)
        if root is not None:
            _check_keys(root)
        return yaml.load(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" at line {mark.line + 1}, character {mark.column + 1}" if mark is not None else ""
        raise ValueError(f"not YAML ({error.problem or error.context}{where})") from error
    except yaml.YAMLError as error:
        raise ValueError(f"not YAML ({str(error).splitlines()[0]})") from error


@dataclass
class _Collection:
    """A list or mapping that is being read: how many values it stands for, and how deep they are nested."""

    anchor: str | None = None
    size: int = 1
    depth: int = 1


def _check_size(text: str) -> None:
    """Count what the text stands for, without making it."""
    around = [_Collection()]
    named: dict[str, _Collection] = {}
    total = 0

    def add(held: _Collection) -> None:
        around[-1].size += held.size
        around[-1].depth = max(around[-1].depth, 1 + held.depth)
        if held.anchor is not None:
            named[held.anchor] = held

    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in named:
                raise ValueError(f"the alias '*{event.anchor}' is within what it stands for, or before it")
            total += named[event.anchor].size
            add(replace(named[event.anchor], anchor=None))
        elif isinstance(event, yaml.CollectionStartEvent):
            total += 1
            around.append(_Collection(event.anchor))
        elif isinstance(event, yaml.CollectionEndEvent):
            add(around.pop())
        elif isinstance(event, yaml.ScalarEvent):
            total += 1
            add(_Collection(event.anchor, 1, 0))
        if total > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values")
        if len(around) + around[-1].depth > DEEPEST:
            raise ValueError("nested too deeply")


def _check_keys(node: Any) -> None:
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _check_keys(value)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen and name is not None:
                raise ValueError(
                    f"the key '{name[:80]}' appears twice in one mapping, the second time at line "
                    f"{key.start_mark.line + 1}: keep one of them"
                )
            seen.add(name)
            _check_keys(value)
