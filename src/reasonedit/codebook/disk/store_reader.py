"""Reads a codebook's folder, which others may write meanwhile."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path

from PIL import Image
from torch import Tensor

from reasonedit.errors import ConflictError

from . import snapshot, writing
from .errors import DamagedError
from .files import is_there
from .manifest import LACKS_STATISTICS, MANIFEST, Manifest, stamp_of
from .reading import News, ReadSoFar, read_news
from .tensors import load_statistics

_TRIES = 5


class StoreReader:
    """Reads what happened to a codebook from its folder.

    Args:
        folder: The folder.
        manifest: What it holds.

    Attributes:
        folder: The folder, as an absolute path.
        manifest: What it holds, as it was read or written last.
    """

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder = folder.absolute()  # the process may change its working folder
        self.manifest = manifest
        self._read_so_far = ReadSoFar()
        self._stamp: object = None

    @staticmethod
    def exists(folder: str | os.PathLike[str]) -> bool:
        """Whether a folder holds a codebook."""
        return is_there(Path(folder) / MANIFEST)

    def lies_in(self, folder: str | os.PathLike[str]) -> bool:
        """Whether this is the codebook in a folder, whatever the folder is called."""
        return self.exists(folder) and self.folder.is_dir() and os.path.samefile(folder, self.folder)

    def changed(self) -> bool:
        """Whether the folder may hold more than was read."""
        return self._stamp is None or self._stamp != stamp_of(self.folder)

    def reading(self) -> AbstractContextManager[None]:
        """Keep the files that the manifest names there meanwhile, whoever tidies the folder."""
        return snapshot.reading(self.folder)

    def news(self, numbers: int = 0, ids: frozenset[str] = frozenset(), width: int | None = None) -> News:
        """Read what is there beyond what was read.

        Args:
            numbers: How many keys are known.
            ids: The edits that are known.
            width: D, where there is a key.

        Raises:
            DamagedError: A file is missing, torn or changed.
            UnreadableError: A file must not be read.
            ConflictError: Another codebook is there now.
        """
        for tries in range(_TRIES):
            with self.reading():
                stamp = stamp_of(self.folder)
                manifest = Manifest.read(self.folder)
                if manifest.id != self.manifest.id:
                    raise ConflictError(f"Another codebook has come into '{self.folder}': load it again.")
                if self._read_so_far.mark.records and manifest.generation != self.manifest.generation:
                    return News(anew=True)
                try:
                    news, read_so_far = read_news(self.folder, manifest, self._read_so_far, numbers, ids, width)
                except DamagedError:  # where the file system has no locks, files may go while they are read
                    if stamp_of(self.folder) == stamp or tries == _TRIES - 1:
                        raise
                else:
                    self.manifest, self._stamp, self._read_so_far = manifest, stamp, read_so_far
                    return news
        raise AssertionError("unreachable")

    def adopt_state(self, other: StoreReader) -> None:
        """Count as read what another reader of the same folder has read."""
        self.manifest, self._stamp, self._read_so_far = other.manifest, other._stamp, other._read_so_far

    def statistics(self) -> dict[str, Tensor]:
        """What the embedding needs.

        Raises:
            DamagedError: The file is damaged, is not the one that the codebook was made with, or is not named.
            UnreadableError: It must not be read.
        """
        if self.manifest.lacks_statistics:
            raise DamagedError(self.folder / MANIFEST, 0, LACKS_STATISTICS)
        sums, digest = self.manifest.statistics, self.manifest.statistics_digest
        return {} if sums is None else load_statistics(sums.check(self.folder), digest)

    def picture(self, name: str) -> Image.Image:
        """A picture by its name.

        Raises:
            DamagedError: It is missing or not what was written.
            UnreadableError: It must not be read.
        """
        return writing.read_picture(self.folder, name)
