"""The pictures that a calibration is made of, read a few at a time."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from reasonedit.embedding.reference import files_in, pictures_in
from reasonedit.errors import InputError, ReasonEditError
from reasonedit.images import ImageSource, load_image
from reasonedit.safe_text import to_safe_text

MOST = 500
"""Pictures that are used, at even steps; more say little that is new."""


@dataclass
class CalibrationPictures:
    """Unlabelled pictures like those that will be asked about.

    Attributes:
        name: What they are called: their folder, or how many were given.
        sources: The pictures, or where they are.
        found: How many there were, before some were taken at even steps.
        skips: Whether one that cannot be read is left out and named, rather than an error.
        unreadable: Those that could not be read, each with the reason, once they were looked at.
        repeated: How many were left out, once they were looked at, because the same pixels came before.
        other: Pictures in the folder of a format that is not looked at.
    """

    name: str
    sources: Sequence[ImageSource]
    found: int
    skips: bool = False
    unreadable: dict[str, str] = field(default_factory=dict)
    repeated: int = 0
    other: Sequence[Path] = ()

    @classmethod
    def of(cls, pictures: str | os.PathLike[str] | Iterable[ImageSource]) -> CalibrationPictures:
        """Pictures from a folder, those in folders within it included, or given one by one.

        Raises:
            InputError: The folder is none, or holds no pictures.
        """
        if not isinstance(pictures, (str, os.PathLike)):
            given = list(pictures)
            return cls(f"{len(given)} pictures", given[:: _step(given)], len(given))
        folder = Path(pictures)
        if not folder.is_dir():
            raise InputError(f"'{folder}' is not a folder: name one of pictures like those that you will ask about.")
        paths = pictures_in(folder)
        if not paths:
            raise InputError(f"There are no pictures in '{folder}': name a folder of png, jpg, webp or bmp files.")
        other = sorted({path for path in files_in(folder) if _is_picture(path)} - set(paths))
        return cls(str(folder.resolve()), paths[:: _step(paths)], len(paths), skips=True, other=other)

    def __len__(self) -> int:
        return len(self.sources)

    def parts(self, size: int) -> Iterator[list[Image.Image]]:
        """The distinct pictures that can be read, some at a time.

        Raises:
            ReasonEditError: One cannot be read, and is not to be skipped.
        """
        self.unreadable, self.repeated = {}, 0
        seen: set[str] = set()
        part: list[Image.Image] = []
        for source in self.sources:
            image = self._read(source)
            if image is None:
                continue
            name = pixels_of(image)
            if name in seen:
                self.repeated += 1
                continue
            seen.add(name)
            part.append(image)
            if len(part) == size:
                yield part
                part = []
        if part:
            yield part

    def _read(self, source: ImageSource) -> Image.Image | None:
        try:
            return load_image(source)
        except ReasonEditError as error:
            if not self.skips:
                raise
            self.unreadable[str(source)] = str(error)
            return None

    def describe_left_out(self) -> list[str]:
        """What was left out and why, a sentence each; nothing where all were used."""
        notes = []
        if self.found > len(self.sources):
            notes.append(f"{len(self.sources)} of {self.found} pictures were taken, at even steps.")
        if self.repeated:
            notes.append(f"{self.repeated} were left out: the same picture came before.")
        if self.unreadable:
            notes.append(f"{len(self.unreadable)} cannot be read: {_names([Path(name) for name in self.unreadable])}.")
        if self.other:
            notes.append(f"{len(self.other)} are not png, jpg, webp or bmp: {_names(self.other)}.")
        return notes


def pixels_of(image: Image.Image) -> str:
    """A digest of a picture's pixels."""
    return hashlib.blake2b(f"{image.size} {image.mode}".encode() + image.tobytes(), digest_size=16).hexdigest()


def _step(pictures: Sequence[object]) -> int:
    return max(1, -(-len(pictures) // MOST))


def _is_picture(path: Path) -> bool:
    """Whether a file is a picture by its name."""
    return (mimetypes.guess_type(path.name)[0] or "").startswith("image/")


def _names(paths: Sequence[Path]) -> str:
    """The names of the first of some files, and how many more there are."""
    names = ", ".join(to_safe_text(path.name) for path in paths[:5])
    return f"{names} and {len(paths) - 5} more" if len(paths) > 5 else names
