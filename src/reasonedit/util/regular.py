"""Reading files whose names somebody else gave: regular ones only, and never more than is wanted."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from reasonedit.errors import InputError

_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def open_file(path: Path, name: str) -> BinaryIO:
    """Open a file to read it; a link to one is followed.

    A pipe would be waited for without end, a device may have no end: neither is read.

    Args:
        path: The file.
        name: What messages call it, such as ``The image 'a.png'``.

    Raises:
        InputError: It is no regular file.
        OSError: It cannot be opened.
        ValueError: No file can have such a path.
    """
    _check_mode(os.stat(path).st_mode, name)  # opening a device may already do something
    handle = os.open(path, _FLAGS)
    try:
        _check_mode(os.fstat(handle).st_mode, name)  # another may have come in its place meanwhile
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_file(path: Path, most: int, name: str) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        most: How many bytes it may have.
        name: What messages call it, such as ``The image 'a.png'``.

    Raises:
        InputError: It is no regular file, or it has more bytes.
        OSError: It cannot be read.
        ValueError: No file can have such a path.
    """
    with open_file(path, name) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:
        raise InputError(f"{name} has more than {_size(most)}, which is the limit.")
    return data


def _check_mode(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        raise InputError(f"{name} is a folder: name a file.")
    if not stat.S_ISREG(mode):
        raise InputError(f"{name} is a pipe or a device, not a file: name a file.")


def _size(most: int) -> str:
    return f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"
