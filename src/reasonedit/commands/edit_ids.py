"""The beginning of an id in place of it, for a person who types it: on the command line and nowhere else."""

from __future__ import annotations

from collections.abc import Collection

from reasonedit.codebook import EditMemory, StoredEdit
from reasonedit.errors import InputError

_SHORTEST = 4
"""Characters of a beginning: "1" is more likely the name of a row that is gone than the beginning of "17"."""


def find_edit(memory: EditMemory, text: str) -> StoredEdit:
    """The edit, undone or not, whose id or the beginning of whose id somebody wrote.

    Raises:
        NotFoundError: There is none.
        InputError: There are several, or the beginning is too short.
    """
    return memory.find(whole_id(text, {*memory.edits, *memory.undone}))


def whole_id(text: str, ids: Collection[str]) -> str:
    """The id that somebody wrote or began; what is neither comes back as it is.

    Args:
        text: What was written, or copied from a list, in which ``…`` ends what was cut short. An id itself always means
            that one.
        ids: The ids that there are.

    Raises:
        InputError: Several begin so, or the beginning is too short.
    """
    if text in ids:
        return text
    begun = text.removesuffix("…")
    near = sorted(name for name in ids if name.startswith(begun))
    if near and len(begun) < _SHORTEST:
        raise InputError(
            f"There is no edit '{text}', and the beginning of an id counts only from {_SHORTEST} characters on: write "
            f"more of it, such as '{near[0]}'."
        )
    if len(near) > 1:
        raise InputError(f"Several edits begin with '{text}': {', '.join(near[:5])}. Write more of the id.")
    return near[0] if near else text
