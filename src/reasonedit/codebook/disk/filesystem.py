"""What a folder's file system must do for a codebook that is written there: found out before anything is written."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from reasonedit.errors import ReasonEditError

from .errors import link_error
from .files import create
from .layout import KEYS, PICTURES
from .lockfile import LockFile

_LOCAL_LOCKS = {"nfs": ("local_lock=flock", "local_lock=all", "nolock"), "nfs4": ("local_lock=flock", "local_lock=all"),
                "cifs": ("nobrl",), "smb3": ("nobrl",)}  # fmt: skip
"""Network file systems, and the options with which their locks hold on one machine only."""
_NEVER_SHARED = ("fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.gcsfuse", "fuse.goofys", "fuse.mount-s3", "fuse.davfs")
"""File systems over a network that pass no locks on."""

_log = logging.getLogger(__name__)
_probed: set[tuple[int, int]] = set()


def check(folder: Path, lock: LockFile) -> None:
    """See that a codebook can be written safely; a folder is probed once per process.

    Args:
        folder: The codebook's folder.
        lock: Its lock, which is held.

    Raises:
        ReasonEditError: A folder within it is a link, the lock keeps nobody out, or files cannot be replaced.
    """
    for name in (KEYS, PICTURES):
        if (folder / name).is_symlink():
            raise link_error(folder / name)
    there = os.stat(folder)
    if (there.st_dev, there.st_ino) in _probed:
        return
    if not lock.excludes():
        raise ReasonEditError(
            f"The file system of '{folder}' has locks that keep nobody out, and two writers would spoil the codebook: "
            "keep it on another one. Reading it is possible."
        )
    _replaces(folder)
    if kind := locks_of_one_machine(folder):
        _log.warning(
            "The codebook in '%s' lies on a network file system (%s) whose locks hold on this machine only: write it "
            "from no other one at the same time.",
            folder,
            kind,
        )
    _probed.add((there.st_dev, there.st_ino))


def _replaces(folder: Path) -> None:
    """See that a file can be put in another's place."""
    old, part = (folder / f".probe-{i}.{os.getpid()}.part" for i in range(2))
    try:
        for path, content in ((old, b"old"), (part, b"new")):
            with create(path) as file:
                file.write(content)
        part.replace(old)
        if old.read_bytes() != b"new" or part.exists():
            raise ReasonEditError(f"The file system of '{folder}' does not replace files as a whole: use another one.")
    finally:
        for path in (old, part):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def locks_of_one_machine(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """The network file system of a folder, where its locks are known to hold on one machine only; else nothing.

    Where a server passes locks on cannot be probed from one machine: it is known from how the file system is mounted.

    Args:
        folder: The folder.
        mounts: What is mounted where, as Linux tells it (proc(5)).
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
        device = os.stat(folder).st_dev
    except OSError:
        return ""
    number = f"{os.major(device)}:{os.minor(device)}"
    for line in lines:
        mount, _, system = line.partition(" - ")
        fields, told = mount.split(), system.split()
        if len(fields) > 5 and len(told) > 2 and fields[2] == number:
            options = {*fields[5].split(","), *told[-1].split(",")}
            if told[0] in _NEVER_SHARED or options & {*_LOCAL_LOCKS.get(told[0], ())}:
                return told[0]
    return ""
