"""Checksums of the files and folders that data are read from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_READ_UP_TO = 256 * 1024 * 1024


class DataFiles:
    """Checksums of files and folders that arguments name.

    Args:
        leaving_out: Folders that do not count wherever they are: those that are written meanwhile.
    """

    def __init__(self, leaving_out: Iterable[Path] = ()) -> None:
        self._left_out = {folder.resolve() for folder in leaving_out}
        self._checksums: dict[Path, str] = {}

    def of(self, *arguments: Any) -> dict[str, str]:
        """For each text among arguments that is a file or folder (also behind a colon) a checksum of its content.

        What is larger than 256 MB altogether counts by the names, sizes and times of its files. A data set of the hub
        counts by its revision in the cache.
        """
        checksums = {}
        for text in {t for value in arguments for t in _texts_in(value)}:
            for part in {text, text.partition(":")[2]}:
                path = Path(part)
                if 0 < len(part) < 1000 and "\0" not in part and path.exists():
                    path = path.resolve()
                    checksums[text] = self._checksums[path] = self._checksums.get(path) or self._read(path)
            revision = _hub_revision(text)
            if revision is not None:
                checksums.setdefault(text, revision)
        return dict(sorted(checksums.items()))

    def _read(self, path: Path) -> str:
        sizes = {file: file.stat() for file in sorted(self._files_in(path))}
        by_content = sum(stat.st_size for stat in sizes.values()) <= _READ_UP_TO
        digest = hashlib.sha256()
        for file, stat in sizes.items():
            digest.update(f"{file.relative_to(path)}\n{stat.st_size}\n".encode("utf-8", "surrogateescape"))
            digest.update(file.read_bytes() if by_content else str(stat.st_mtime_ns).encode())
        return digest.hexdigest()[:16]

    def _files_in(self, path: Path) -> Iterator[Path]:
        """A file, or all files below a folder but hidden ones."""
        if path.is_file():
            yield path
        for parent, folders, files in os.walk(path):
            here = Path(parent)
            folders[:] = [name for name in folders if name[0] != "." and here / name not in self._left_out]
            yield from (here / name for name in files if name[0] != ".")


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
