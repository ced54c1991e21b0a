"""Data sets by the names that packages offer them under, with the folder that one reads: ``vlkeb:FOLDER``."""

from __future__ import annotations

import inspect
from typing import Any

from reasonedit.errors import InputError, NotFoundError
from reasonedit.registry import lookup, names

from .source import EditSource


def open_source(named: str, **options: Any) -> EditSource:
    """The data set that a text names.

    Args:
        named: A name that a package offers, or one with the folder or file after a colon.
        **options: Its other arguments.

    Raises:
        NotFoundError: There is no data set of this name.
        InputError: It needs a folder, or takes none; or it takes no such argument.
    """
    make, arguments = _find(named)
    try:
        source: EditSource = make(**arguments, **options)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"The data set '{named}' takes no such argument: {error}.") from error
    return source


def describe_source(named: str) -> dict[str, Any]:
    """The data set that a text names as a config has it: ``class_path`` and ``init_args``; as :func:`open_source`."""
    make, arguments = _find(named)
    if not isinstance(make, type):
        raise InputError(f"The data set '{named}' is not made by a class: an experiment cannot give it a seed.")
    return {"class_path": f"{make.__module__}.{make.__qualname__}", "init_args": arguments}


def _find(named: str) -> tuple[Any, dict[str, str]]:
    """What makes a data set, and its first argument: the folder, where there is one."""
    name, colon, place = named.partition(":")
    make = lookup("datasets", name)
    if make is None:
        raise NotFoundError(f"There is no data set '{name}': use {', '.join(names('datasets'))}.")
    needed = [
        parameter.name
        for parameter in inspect.signature(make).parameters.values()
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if needed and not place:
        raise InputError(f"The data set '{name}' is read from a folder or file: write {name}:FOLDER.")
    if colon and not needed:
        raise InputError(f"The data set '{name}' reads no folder: write '{name}' alone.")
    return make, {needed[0]: place} if needed else {}
