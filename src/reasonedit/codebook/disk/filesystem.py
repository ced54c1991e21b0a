"""What the file system of a codebook's folder must be able to do; it is tried before anything is written."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from reasonedit.errors import UnavailableError

from .errors import link_error
from .files import create
from .layout import KEYS, PICTURES
from .lockfile import LockFile

_LOCAL_LOCKS = {"nfs": ("local_lock=flock", "local_lock=all", "nolock"), "nfs4": ("local_lock=flock", "local_lock=all"),
                "cifs": ("nobrl",), "smb3": ("nobrl",)}  # fmt: skip
"""Network file systems, and the mount options with which their locks hold on one machine only."""
_NEVER_SHARED = ("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.mount-s3", "fuse.davfs")
"""Network file systems whose locks always hold on one machine only."""

_log = logging.getLogger(__name__)
_checked: set[tuple[int, int]] = set()
"""Device and inode of the folders that this process has checked."""


def check(folder: Path, lock: LockFile) -> None:
    """Check that a codebook can be written safely; each folder once per process, its links each time.

    Args:
        folder: The codebook's folder.
        lock: Its lock, which is held.

    Raises:
        ConflictError: A folder within it is a link.
        UnavailableError: The lock keeps nobody out, or files cannot be replaced.
    """
    for name in (KEYS, PICTURES):
        if (folder / name).is_symlink():
            raise link_error(folder / name)
    status = os.stat(folder)
    if (status.st_dev, status.st_ino) in _checked:
        return
    if not lock.excludes():
        raise UnavailableError(
            f"The file system of '{folder}' has locks that keep nobody out, and two writers would spoil the codebook: "
            "keep it on another one. Reading it is possible."
        )
    _check_replacing(folder)
    if kind := locks_of_one_machine(folder):
        _log.warning(
            "The codebook in '%s' lies on a network file system (%s) whose locks hold on this machine only: write it "
            "from no other one at the same time.",
            folder,
            kind,
        )
    _checked.add((status.st_dev, status.st_ino))


def _check_replacing(folder: Path) -> None:
    """Check that a file can take another's place."""
    old, part = (folder / f".probe-{i}.{os.getpid()}.part" for i in range(2))
    try:
        for path, content in ((old, b"old"), (part, b"new")):
            with create(path) as file:
                file.write(content)
        part.replace(old)
        if old.read_bytes() != b"new" or part.exists():
            raise UnavailableError(f"The file system of '{folder}' does not replace files as a whole: use another one.")
    finally:
        for path in (old, part):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def locks_of_one_machine(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The kind of a folder's file system, if that is a network one whose locks hold on one machine only; else nothing.

    Whether a server passes locks on cannot be tried from one machine, but the mount options say it.

    Args:
        folder: The folder.
        mounts: What is mounted where, as Linux lists it (proc(5)).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        device = os.stat(folder).st_dev
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, system = line.partition(" - ")
        mount_fields, system_fields = mount.split(), system.split()
        if len(mount_fields) > 5 and len(system_fields) > 2 and mount_fields[2] == number:
            kind = system_fields[0]
            options = {*mount_fields[5].split(","), *system_fields[-1].split(",")}
            if kind in _NEVER_SHARED or options & {*_LOCAL_LOCKS.get(kind, ())}:
                return kind
    return ""
