"""Image files: their paths, as somebody else gave them, and their bytes."""

from __future__ import annotations

import contextlib
import os
import unicodedata
from pathlib import Path

from reasonedit.errors import InputError, NotFoundError, ReasonEditError, UnavailableError
from reasonedit.util.regular import read_file

LONGEST_SHOWN = 300
"""Characters of a path in a message."""

MOST_BYTES = 256 * 2**20
"""Of an image file: more than a camera makes."""


def read_image_bytes(path: Path, name: str = "") -> bytes:
    """Read an image file.

    Args:
        path: The file.
        name: What messages call it, such as ``The image 'a.png'``; its :func:`image_name` when not given.

    Raises:
        NotFoundError: There is no such file.
        InputError: It is too large, or no regular file.
        UnavailableError: It cannot be read.
    """
    name = name or image_name(path)
    try:
        return read_file(find_spelling(path), MOST_BYTES, name)
    except ReasonEditError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"There is no image file {_shorten(path)}: check the path.") from error
    except (OSError, ValueError) as error:
        raise UnavailableError(f"{name} cannot be opened ({reason_of(error)}): check its permissions.") from error


def image_name(path: Path) -> str:
    """What messages call an image file."""
    return f"The image {_shorten(path)}"


def path_inside(folder: Path, name: str) -> Path:
    """The path of a file in a folder, by a name that somebody else gave.

    Links in the folder are followed: a data set in the Hub's cache, or one that DVC keeps, consists of them, and people
    link large folders of pictures. Where the folder itself is somebody else's, see :func:`check_unlinked`.

    Raises:
        InputError: The name leads out of the folder, or no file can have it.
    """
    try:
        path = Path(os.path.normpath(folder / name))  # without '..', which would start from where a link leads
        stays = path.is_relative_to(os.path.normpath(folder))
        path = find_spelling(path)
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.stat()
    except (OSError, ValueError) as error:  # a NUL, a loop of links, a name that is too long
        raise InputError(f"The image path {_quote(name)} cannot be opened ({reason_of(error)}): check it.") from error
    if not stays:
        raise _leads_out(name, folder)
    return path


def check_unlinked(path: Path, folder: Path) -> None:
    """Make sure that a path in a folder leads out of it by no link, either.

    Raises:
        InputError: It does, or it is a loop of links.
    """
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError) as error:
        raise InputError(f"{image_name(path)} cannot be opened ({reason_of(error)}): check it.") from error
    if not stays:
        raise _leads_out(str(path), folder)


def _leads_out(name: str, folder: Path) -> InputError:
    return InputError(f"The image path {_quote(name)} leads out of the folder '{folder}': put the image into it.")


def find_spelling(path: Path) -> Path:
    """A path as the file system spells it.

    A name of letters with marks can be written in several ways that look the same and are the same text (Unicode
    Standard Annex 15); some file systems keep the one, others the other. A file of exactly this spelling comes first.
    Where several other spellings are there, the path is returned unchanged, and there is no such file.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    spelled = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        step = spelled / part
        if not part.isascii() and not os.path.lexists(step) and spelled.is_dir():
            normal = unicodedata.normalize("NFC", part)
            same = [name for name in os.listdir(spelled) if unicodedata.normalize("NFC", name) == normal]
            step = spelled / same[0] if len(same) == 1 else step
        spelled = step
    return spelled


def reason_of(error: Exception) -> str:
    """The first line of what an error says, or its type."""
    message = str(getattr(error, "strerror", None) or error)
    return message.splitlines()[0][:LONGEST_SHOWN] if message.strip() else type(error).__name__


def _shorten(path: Path) -> str:
    return f"'{path}'" if len(str(path)) < LONGEST_SHOWN else f"'{str(path)[:LONGEST_SHOWN]}…'"


def _quote(name: str) -> str:
    return f"{name[:200]!r}"
