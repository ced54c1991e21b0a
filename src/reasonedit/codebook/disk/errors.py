"""What to raise where a file of a codebook is damaged, or cannot be read or written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from reasonedit.errors import ConflictError, InputError, ReasonEditError, UnavailableError

from .layout import KEYS, PICTURES

_DENIED = {errno.EACCES, errno.EPERM}
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
"""Errors that pass, and that say nothing about the file."""


class DamagedError(ReasonEditError):
    """A file of the codebook is not what was written.

    Attributes:
        path: The file.
        offset: The byte from which on it is damaged.
        what: What is wrong.
    """

    def __init__(self, path: Path, offset: int, what: str) -> None:
        self.path, self.offset, self.what = path, offset, what
        super().__init__(
            f"The codebook's file '{path}' is damaged at byte {offset}: {what}. 'reasonedit codebook verify' says what "
            "can be recovered, 'reasonedit codebook repair' recovers it and keeps the damaged one."
        )


class UnreadableError(UnavailableError):
    """A file of the codebook cannot be read by this user, or not now: it is not known to be damaged.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        if error.errno in _DENIED:
            super().__init__(f"The codebook's file {_describe_denial(path, 'read', 'rX')} Nothing is damaged.")
        else:
            super().__init__(
                f"The codebook's file '{path}' cannot be read at the moment ({error.strerror}): nothing is known to be "
                "damaged; try again."
            )


def read_error(path: Path, error: OSError) -> DamagedError | UnreadableError:
    """The error to raise where a file could not be read.

    Args:
        path: The file.
        error: What the system said.
    """
    if error.errno in _DENIED or error.errno in _PASSING:
        return UnreadableError(path, error)
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return DamagedError(path, 0, "the file is missing" if missing else f"it cannot be read ({error.strerror})")


def write_error(folder: Path, error: OSError, doing: str = "written") -> UnavailableError:
    """The error to raise where a codebook could not be written.

    Args:
        folder: The codebook.
        error: What the system said.
        doing: What could not be done to it.
    """
    unchanged = "What was stored there before is unchanged."
    if error.errno in _DENIED:
        path = Path(os.fsdecode(error.filename)) if error.filename is not None else folder
        denial = _describe_denial(path, "written", "rwX", folder)
        return UnavailableError(f"The codebook cannot be {doing}: {denial} {unchanged}")
    if error.errno == errno.EROFS:
        return UnavailableError(
            f"The codebook in '{folder}' cannot be {doing}: its file system is read-only. Save it into another folder."
        )
    return UnavailableError(
        f"The codebook in '{folder}' cannot be {doing} ({error.strerror or error}): free some space or name another "
        f"folder. {unchanged}"
    )


def check_place(folder: str | os.PathLike[str]) -> None:
    """Make sure that a codebook can be begun in a folder, before what takes long.

    Raises:
        InputError: A file has its name, or that of a folder above it.
        UnavailableError: It may not be written.
    """
    path = Path(folder).absolute()
    there = next(p for p in (path, *path.parents) if os.path.lexists(p))
    if not there.is_dir():
        raise InputError(f"'{there}' is no folder, and a codebook is one: name another.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise write_error(path, PermissionError(errno.EACCES, "permission denied", str(there)))


def link_error(path: Path) -> ConflictError:
    """The error to raise where a file is to be written and a link has its name."""
    return ConflictError(
        f"'{path}' is a link: a codebook is not written through links, which would change what lies elsewhere. Put "
        "what it leads to in its place."
    )


def _describe_denial(path: Path, what: str, mode: str, folder: Path | None = None) -> str:
    """Say that a file is not this user's, and which mode its owner has to give it."""
    folder = folder or (path.parent.parent if path.parent.name in (KEYS, PICTURES) else path.parent)
    existing = next((p for p in (path, *path.parents) if os.path.exists(p)), path)
    return (
        f"'{path}' cannot be {what} by you (permission denied): ask {_name_owner(existing)} for it, who may enter "
        f"chmod -R g+{mode} '{folder}'."
    )


def _name_owner(path: Path) -> str:
    try:
        number = os.stat(path).st_uid
    except OSError:
        return "its owner"
    try:
        import pwd

        return f"its owner {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"its owner (user {number})"
