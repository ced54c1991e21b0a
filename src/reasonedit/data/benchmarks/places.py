"""Where the files of a published benchmark are: authors and copies nest them differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reasonedit.errors import NotFoundError


def find_file(root: str, places: Sequence[str]) -> Path:
    """The data file of a benchmark.

    Args:
        root: Its folder.
        places: Where in it the file may be.

    Raises:
        NotFoundError: It is in none of these places.
    """
    folder = Path(root).absolute()
    found = next((folder / place for place in places if (folder / place).is_file()), None)
    if found is None:
        raise NotFoundError(f"There is no file {' or '.join(places)} in '{folder}': name the folder that holds it.")
    return found


def find_images(root: str, given: str | None, places: Sequence[str]) -> Path:
    """The folder that the images' paths start from.

    Args:
        root: The benchmark's folder.
        given: The folder as a user named it.
        places: Where in the benchmark's folder it may be; the first of them that is there is taken.

    Returns:
        The folder; the benchmark's own where none of the places is there.
    """
    if given is not None:
        return Path(given).absolute()
    folder = Path(root).absolute()
    return next((folder / place for place in places if (folder / place).is_dir()), folder)
