"""Models, data sets, designs and reference pictures that installed packages offer under a name.

A package offers one by an entry point in its ``pyproject.toml``, as the embedded world does::

    [project.entry-points."reasonedit.datasets"]
    world = "reasonedit.data.world.benchmark:EmbeddedWorld"

==========================  =========================================================================================
``reasonedit.models``       a function without arguments that returns the folder of a VLM
``reasonedit.designs``      the :class:`~reasonedit.Design` that the model of this name has by default
``reasonedit.datasets``     an :class:`~reasonedit.data.source.EditSource` that is made without arguments; or one whose
                            first argument is the folder or file that it reads, named behind a colon: ``mine:FOLDER``
``reasonedit.references``   a module with ``reference_images()`` and, for discriminants, ``reference_things()``: see
                            :mod:`reasonedit.embedding.reference`
==========================  =========================================================================================
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import Any

from reasonedit.errors import UnavailableError


@cache
def lookup(kind: str, name: str) -> Any | None:
    """What is offered under a name.

    Args:
        kind: ``"models"``, ``"designs"``, ``"datasets"`` or ``"references"``.
        name: The name.

    Returns:
        What the entry point names, or ``None`` where there is none.

    Raises:
        UnavailableError: The entry point cannot be imported.
    """
    for entry in entry_points(group=f"reasonedit.{kind}", name=name):
        try:
            return entry.load()
        except (ImportError, AttributeError) as error:
            raise UnavailableError(f"'{name}' is not available: {entry.value} cannot be imported ({error}).") from error
    return None


def names(kind: str) -> list[str]:
    """The names under which something is offered; ``kind`` as for :func:`lookup`."""
    return sorted({entry.name for entry in entry_points(group=f"reasonedit.{kind}")})
