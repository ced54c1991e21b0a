"""Files that are there whole or not at all.

Somebody may have sent the folder. So only regular files are read, and no more of one than it should hold; and nothing
is written through a link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from reasonedit.errors import ConflictError, ReasonEditError
from reasonedit.util import regular

from .errors import DamagedError, link_error, read_error

_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
"""What a file system says that cannot sync the names in a folder."""
_TO_SYNC = os.O_RDWR if os.name == "nt" else os.O_RDONLY  # Windows waits only for what may be written
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def open_to_read(path: Path) -> BinaryIO:
    """Open a file to read it.

    It may be a link to a file: git-annex, DVC and the Hub's cache lay files out like this.

    Raises:
        DamagedError: It is missing, or no regular file.
        UnreadableError: It must not be read.
    """
    try:
        return regular.open_file(path, f"'{path}'")
    except OSError as error:
        raise read_error(path, error) from error
    except ReasonEditError as error:
        raise DamagedError(path, 0, "it is not a regular file") from error


def read_content(path: Path, most: int) -> bytes:
    """Read a whole file.

    Args:
        path: The file.
        most: How many bytes it may have.

    Raises:
        DamagedError: It is missing, no regular file, or larger.
        UnreadableError: It must not be read.
    """
    with open_to_read(path) as file:
        try:
            content = file.read(most + 1)
        except OSError as error:
            raise read_error(path, error) from error
    if len(content) > most:
        raise DamagedError(path, most, f"it has more than {most} bytes, which is the limit")
    return content


def open_to_write(path: Path) -> int:
    """Open a file that is changed in place, or make it; no link is followed.

    Returns:
        The handle, for reading and writing.

    Raises:
        ConflictError: It is a link, or no regular file.
        OSError: It cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _ALWAYS | _NO_LINK | _NO_WAIT, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise link_error(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ConflictError(f"'{path}' is not a regular file: remove it; a codebook is not written there.")
    return handle


def create(path: Path) -> BinaryIO:
    """Begin a new file, in the place of whatever has its name; its mode follows from the umask and its folder.

    Raises:
        OSError: It cannot be made.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _ALWAYS | _NO_LINK
    try:
        handle = os.open(path, flags, 0o666)
    except FileExistsError:  # left behind, or put there
        path.unlink()
        handle = os.open(path, flags, 0o666)
    return os.fdopen(handle, "wb")


@contextmanager
def stage(path: Path) -> Iterator[Path]:
    """A name to write a file under: it becomes ``path`` once it is complete and on the disk.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)  # left behind, or put there to be written through
        yield part
        sync(part)
        part.replace(path)
        sync(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def write_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write that comes to ``path`` once it is complete and on the disk.

    Raises:
        OSError: It cannot be written.
    """
    with stage(path) as part, create(part) as file:
        yield file


def is_there(path: Path) -> bool:
    """Whether something has this name; where that is a link, whether it leads to something.

    Raises:
        UnreadableError: This user must not look there.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: no file can have this name
        return False
    except OSError as error:
        raise read_error(path, error) from error
    return True


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; for names only where the file system can.

    Raises:
        OSError: They do not get there.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return
    handle = os.open(path, _TO_SYNC | _ALWAYS)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (is_folder and error.errno in _NO_SYNC):
            raise
    finally:
        os.close(handle)
