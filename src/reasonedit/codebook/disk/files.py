"""Files that are whole or not there, and sums that show where one was damaged.

Somebody may have sent the folder. So nothing but a regular file is ever read, no more of it than it should hold, and
nothing is ever written through a link.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from reasonedit.errors import ReasonEditError

KEYS, PICTURES = "keys", "pictures"
"""The folders within a codebook's."""

BLOCK = 1 << 20
_NAME = re.compile(rf"(?:{KEYS}/)?[\w-]{{1,200}}\.safetensors", re.ASCII)
_LARGEST = 1 << 62
"""Bytes, keys or records: no file system holds more, and no integer of the libraries below."""

_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN, errno.ESTALE, errno.ETIMEDOUT}
"""What says nothing of the file."""
_ON_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF}
"""What a file system says that cannot wait for the names in a folder."""
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


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


class UnreadableError(ReasonEditError):
    """A file of the codebook cannot be read by this user, or not now: it is not known to be damaged.

    Attributes:
        path: The file.
    """

    def __init__(self, path: Path, error: OSError) -> None:
        self.path = path
        if error.errno in (errno.EACCES, errno.EPERM):
            super().__init__(f"The codebook's file {_denied(path, 'read', 'rX')} Nothing is damaged.")
        else:
            super().__init__(
                f"The codebook's file '{path}' cannot be read at the moment ({error.strerror}): nothing is known to be "
                "damaged; try again."
            )


def unwritable(folder: Path, error: OSError, doing: str = "written") -> ReasonEditError:
    """What to raise where a codebook cannot be written.

    Args:
        folder: The codebook.
        error: What the system said.
        doing: What could not be done to it.
    """
    kept = "What was stored there before is unchanged."
    if error.errno in (errno.EACCES, errno.EPERM):
        where = Path(os.fsdecode(error.filename)) if error.filename is not None else folder
        return ReasonEditError(f"The codebook cannot be {doing}: {_denied(where, 'written', 'rwX', folder)} {kept}")
    if error.errno == errno.EROFS:
        return ReasonEditError(
            f"The codebook in '{folder}' cannot be {doing}: its file system is read-only. Save it into another folder."
        )
    return ReasonEditError(
        f"The codebook in '{folder}' cannot be {doing} ({error.strerror or error}): free some space or name another "
        f"folder. {kept}"
    )


def _denied(path: Path, what: str, mode: str, folder: Path | None = None) -> str:
    folder = folder or (path.parent.parent if path.parent.name in (KEYS, PICTURES) else path.parent)
    there = next((p for p in (path, *path.parents) if os.path.exists(p)), path)
    return (
        f"'{path}' cannot be {what} by you (permission denied): ask {_owner(there)} for it, who may enter "
        f"chmod -R g+{mode} '{folder}'."
    )


def _owner(path: Path) -> str:
    """Whose a file is, in words."""
    try:
        number = os.stat(path).st_uid
    except OSError:
        return "its owner"
    try:
        import pwd

        return f"its owner {pwd.getpwuid(number).pw_name}"
    except (ImportError, KeyError):
        return f"its owner (user {number})"


@dataclass(frozen=True)
class Sums:
    """A file with its size and the CRC-32 of each of its blocks of 1 MiB."""

    file: str
    bytes: int
    blocks: tuple[int, ...]

    @classmethod
    def of(cls, path: Path, name: str) -> Sums:
        """Those of a file as it is."""
        with to_read(path) as file:
            return cls(name, os.fstat(file.fileno()).st_size, tuple(_crcs(file)))

    @classmethod
    def of_content(cls, name: str, content: builtins.bytes) -> Sums:
        """Those of a file that holds this, whether there is one or not."""
        return cls(name, len(content), tuple(_crcs(io.BytesIO(content))))

    @classmethod
    def from_dict(cls, values: Any) -> Sums:
        """From JSON.

        Raises:
            KeyError: A field is missing.
            TypeError: A field is of another type.
            ValueError: A field cannot be.
        """
        name, size, blocks = values["file"], values["bytes"], values["blocks"]
        if not (isinstance(name, str) and isinstance(blocks, (list, tuple))):
            raise TypeError("the sums of a file are none")
        if not _NAME.fullmatch(name):  # names become paths
            raise ValueError(f"'{name[:80]}' is no file of a codebook")
        if len(blocks) != -(-whole_number(size, "the size of a file") // BLOCK):
            raise ValueError("a file has more or fewer blocks than sums")
        return cls(name, size, tuple(whole_number(b, "a sum") for b in blocks))

    def check(self, folder: Path) -> Path:
        """The file, once it is certain that it is what was written.

        Raises:
            DamagedError: It is missing, shorter, longer or changed.
            UnreadableError: It must not be read.
        """
        path = folder / self.file
        with to_read(path) as file:
            size = os.fstat(file.fileno()).st_size
            try:
                crcs = list(_crcs(file, self.bytes))
            except OSError as error:
                raise unread(path, error) from error
        for i, (found, expected) in enumerate(zip(crcs, self.blocks, strict=False)):
            if found != expected and (i + 1) * BLOCK <= size:
                raise DamagedError(path, i * BLOCK, "its content is not what was written")
        if size != self.bytes:
            raise DamagedError(path, min(size, self.bytes), f"it has {size} bytes instead of {self.bytes}")
        if crcs != list(self.blocks):
            raise DamagedError(path, (len(crcs) - 1) * BLOCK, "its content is not what was written")
        return path


def whole_number(value: Any, what: str) -> int:
    """A number from JSON that counts something.

    Raises:
        TypeError: It is none.
        ValueError: It is negative, or larger than anything that is counted.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{what} is no whole number")
    if not 0 <= value < _LARGEST:
        raise ValueError(f"{what} is out of range")
    return value


def _crcs(file: BinaryIO, most: int | None = None) -> Iterator[int]:
    """The sums of a file's blocks, up to a byte."""
    left = _LARGEST if most is None else most
    while left > 0 and (block := file.read(min(BLOCK, left))):
        left -= len(block)
        yield zlib.crc32(block)


def unread(path: Path, error: OSError) -> ReasonEditError:
    """What to raise where the system said this when a file was read."""
    if error.errno in (errno.EACCES, errno.EPERM) or error.errno in _PASSING:
        return UnreadableError(path, error)
    missing = isinstance(error, (FileNotFoundError, NotADirectoryError))
    return DamagedError(path, 0, "the file is missing" if missing else f"it cannot be read ({error.strerror})")


def to_read(path: Path) -> BinaryIO:
    """Open a file for reading.

    It may be a link to a file, as git-annex, DVC and the Hub's cache lay files out; it is never a pipe, which would be
    waited for, nor a device, which may never end.

    Raises:
        DamagedError: It is missing, or no regular file.
        UnreadableError: It must not be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # even opening a device may do something
            raise DamagedError(path, 0, "it is no regular file")
        handle = os.open(path, os.O_RDONLY | _ALWAYS | _NO_WAIT)
    except OSError as error:
        raise unread(path, error) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DamagedError(path, 0, "it is no regular file")
    return os.fdopen(handle, "rb")


def content(path: Path, most: int) -> bytes:
    """What a file holds, where that is no more than so many bytes.

    Raises:
        DamagedError: It is missing, no regular file, or larger.
        UnreadableError: It must not be read.
    """
    with to_read(path) as file:
        try:
            found = file.read(most + 1)
        except OSError as error:
            raise unread(path, error) from error
    if len(found) > most:
        raise DamagedError(path, most, f"it has more than {most} bytes, which is the most")
    return found


def to_write(path: Path) -> int:
    """Open a file that is changed in place, and make it where it is not there; no link is followed.

    Returns:
        The handle, for reading and writing.

    Raises:
        ReasonEditError: It is a link, or no regular file.
        OSError: It cannot be opened.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | _ALWAYS | _NO_LINK | _NO_WAIT, 0o666)
    except OSError as error:
        if path.is_symlink():
            raise linked(path) from error
        raise
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ReasonEditError(f"'{path}' is no regular file: remove it; a codebook is not written there.")
    return handle


def linked(path: Path) -> ReasonEditError:
    """What to raise where a link stands in the way of writing."""
    return ReasonEditError(
        f"'{path}' is a link: a codebook is not written through links, which would change what lies elsewhere. Put "
        "what it leads to in its place."
    )


def new(path: Path) -> BinaryIO:
    """Begin a file that is not there yet; what anybody may do with it follows from the umask and from its folder.

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
def whole(path: Path) -> Iterator[Path]:
    """A name to write a file under that becomes ``path`` once it is complete and on the disk.

    Raises:
        OSError: It cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.unlink(missing_ok=True)  # left behind, or put there to be written through
        yield part
        to_disk(part)
        part.replace(path)
        to_disk(path.parent)
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        raise


@contextmanager
def created(path: Path) -> Iterator[BinaryIO]:
    """A file to write that comes to ``path`` once it is complete and on the disk.

    Raises:
        OSError: It cannot be written.
    """
    with whole(path) as part, new(part) as file:
        yield file


def is_there(path: Path) -> bool:
    """Whether there is anything of a name, or behind it where it is a link.

    Raises:
        UnreadableError: That is not to be seen.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a name that no file can have
        return False
    except OSError as error:
        raise unread(path, error) from error
    return True


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; of names only where the file system can tell.

    Raises:
        OSError: They do not get there.
    """
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    handle = os.open(path, os.O_RDONLY | _ALWAYS)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (folder and error.errno in _ON_FOLDERS):
            raise
    finally:
        os.close(handle)
