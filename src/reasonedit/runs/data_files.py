"""Checksums of the files and folders that data are read from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from stat import S_ISDIR, S_ISREG
from typing import Any

_READ_UP_TO = 256 * 1024 * 1024


@dataclass(frozen=True)
class _Content:
    """What was read of a file or folder: one checksum, and the device and number of each file."""

    checksum: str
    files: frozenset[tuple[int, int]]


class DataFiles:
    """Checksums of files and folders that arguments name, or that a source reads.

    Args:
        leaving_out: Folders that do not count wherever they are: those that are written meanwhile.
    """

    def __init__(self, leaving_out: Iterable[Path] = ()) -> None:
        self._left_out = {folder.resolve() for folder in leaving_out}
        self._known: dict[Path | tuple[Path, ...], _Content] = {}

    def of(self, *arguments: Any, files: Iterable[Path] = ()) -> dict[str, str]:
        """For each text among arguments that is a file or folder (also behind a colon) a checksum of its content.

        What is larger than 256 MB altogether counts by the names, sizes and times of its files. A data set of the hub
        counts by its revision in the cache.

        Args:
            *arguments: The arguments, however deep.
            files: Files that are read, too. Those that are none of the arguments', nor in a folder of theirs, have one
                checksum together, under ``files in FOLDER``.
        """
        checksums: dict[str, str] = {}
        read: set[tuple[int, int]] = set()
        for text in {t for value in arguments for t in _texts_in(value)}:
            for part in {text, text.partition(":")[2]}:
                path = Path(part)
                if 0 < len(part) < 1000 and "\0" not in part and _exists(path):
                    path = path.resolve()
                    content = self._content_of(path, path, partial(self._files_in, path))
                    checksums[text] = content.checksum
                    read |= content.files
            revision = _hub_revision(text)
            if revision is not None:
                checksums.setdefault(text, revision)
        named = sorted({path.absolute() for path in files})
        beside = {path: stat for path, stat in _found(named) if _number_of(stat) not in read}
        if beside:
            folder = Path(os.path.commonpath([path.parent for path in beside]))
            content = self._content_of(tuple(beside), folder, beside.items)
            checksums[f"files in {folder}"] = content.checksum
        return dict(sorted(checksums.items()))

    def _content_of(
        self,
        name: Path | tuple[Path, ...],
        start: Path,
        found: Callable[[], Iterable[tuple[Path, os.stat_result]]],
    ) -> _Content:
        """The content of files, which are read once.

        Args:
            name: What they are known by.
            start: Where their names start from.
            found: Finds them.
        """
        if name not in self._known:
            stats = dict(sorted(found()))
            by_content = sum(stat.st_size for stat in stats.values()) <= _READ_UP_TO
            digest = hashlib.sha256()
            for file, stat in stats.items():
                digest.update(f"{file.relative_to(start)}\n{stat.st_size}\n".encode("utf-8", "surrogateescape"))
                digest.update(file.read_bytes() if by_content else str(stat.st_mtime_ns).encode())
            numbers = frozenset(map(_number_of, stats.values()))
            self._known[name] = _Content(digest.hexdigest()[:16], numbers)
        return self._known[name]

    def _files_in(self, path: Path) -> Iterator[tuple[Path, os.stat_result]]:
        """A file, or all files below a folder but hidden ones; a link to a folder is followed, each folder once."""
        yield from _found([path])
        entered = {_number_of(path.stat())}
        for parent, folders, files in os.walk(path, followlinks=True):
            here = Path(parent)
            wanted = []
            for folder, stat in _found((here / name for name in sorted(folders) if name[0] != "."), stat_is=S_ISDIR):
                if _number_of(stat) not in entered and folder.resolve() not in self._left_out:
                    entered.add(_number_of(stat))
                    wanted.append(folder.name)
            folders[:] = wanted
            yield from _found(here / name for name in files if name[0] != ".")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a text that is too long for a name
        return False


def _found(paths: Iterable[Path], stat_is: Callable[[int], bool] = S_ISREG) -> Iterator[tuple[Path, os.stat_result]]:
    """Those of some paths that are files, or what else is asked for; a link that leads nowhere is none."""
    for path in paths:
        with suppress(OSError):
            stat = path.stat()
            if stat_is(stat.st_mode):
                yield path, stat


def _number_of(stat: os.stat_result) -> tuple[int, int]:
    return stat.st_dev, stat.st_ino


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, (str, Path)):
        yield str(value)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            if key != "encoder":  # known by its weights
                yield from _texts_in(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _texts_in(inner)


def _hub_revision(text: str) -> str | None:
    """The revision of a data set of the hub, as it lies in the cache."""
    from huggingface_hub import constants

    if text.count("/") != 1 or len(text) > 200 or not text.isprintable():
        return None
    path = Path(constants.HF_HUB_CACHE) / f"datasets--{text.replace('/', '--')}" / "refs" / "main"
    return path.read_text().strip() if path.is_file() else None
