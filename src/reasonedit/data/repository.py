"""The files of a data set, in a folder or on the hub, and their rows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from reasonedit.errors import InputError, NotFoundError, ReasonEditError, UnavailableError
from reasonedit.util.hub import hub_errors
from reasonedit.util.regular import open_file

from .rows import KINDS, Row, read_rows

ENDINGS = (*KINDS, ".csv")
"""How the names of files with rows end."""


class Repository:
    """The files of a data set.

    Args:
        root: A folder, or a hub id.

    Attributes:
        paths: Their paths from the root on, in order; hidden ones are left out.

    Raises:
        NotFoundError: There is neither.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self.folder = Path(root).absolute() if Path(root).is_dir() else None
        if self.folder is not None:
            paths = [p.relative_to(self.folder).as_posix() for p in _files_below(self.folder)]
        else:
            from huggingface_hub import list_repo_files

            try:
                paths = list_repo_files(root, repo_type="dataset")
            except hub_errors() as error:
                raise NotFoundError(
                    f"There is no data set '{root}': give a folder, or a hub id that can be reached."
                ) from error
        self.paths = sorted(p for p in paths if not any(part.startswith(".") for part in PurePosixPath(p).parts))

    def tables(self, folder: str, *, deep: bool = False) -> list[str]:
        """Paths of the files with rows in a folder, whatever the case of its name.

        Args:
            folder: The folder, from the root on.
            deep: Whether those in folders of it count, too.
        """
        wanted = folder.casefold()
        paths = []
        for path in self.paths:
            parent = PurePosixPath(path).parent.as_posix().casefold()
            if PurePosixPath(path).suffix.lower() in ENDINGS and (
                parent == wanted or (deep and parent.startswith(f"{wanted}/"))
            ):
                paths.append(path)
        return paths

    def rows(self, path: str, *, named: bool = False) -> Iterator[Row]:
        """The rows of a file; each says which file it is of.

        Args:
            path: The file's path from the root on.
            named: As for :func:`~reasonedit.data.rows.read_rows`.

        Raises:
            UnavailableError: The file cannot be fetched.
            InputError: It cannot be read.
        """
        local = self._local(path)
        for row in _read_csv(local) if local.suffix.lower() == ".csv" else read_rows(local, named=named):
            yield replace(row, file=path)

    def _local(self, path: str) -> Path:
        if self.folder is not None:
            return self.folder / path
        from huggingface_hub import hf_hub_download

        try:
            return Path(hf_hub_download(self.root, path, repo_type="dataset"))
        except hub_errors() as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UnavailableError(f"'{path}' of '{self.root}' cannot be fetched: {reason}") from error


def _files_below(folder: Path, above: frozenset[str] = frozenset()) -> Iterator[Path]:
    """All files below a folder; a link to a folder is followed, but not back to one that it lies in."""
    real = os.path.realpath(folder)
    if real in above:
        return
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files_below(path, above | {real})
        elif path.is_file():
            yield path


def _read_csv(path: Path) -> Iterator[Row]:
    try:
        binary = open_file(path, f"The data file '{path}'")
        with io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as file:
            for number, values in enumerate(csv.DictReader(file), 1):
                extra = values.pop(None, None)  # where csv puts what has no column
                problem = "more cells than the first line has columns" if extra else ""
                yield Row(number, dict(values), problem)
    except ReasonEditError:
        raise
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"The data file '{path}' cannot be read: {str(error).splitlines()[0]}.") from error
