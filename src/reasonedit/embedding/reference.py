"""Pictures that have nothing to do with any edit: the statistics of the vision half are measured on them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from reasonedit.errors import InputError
from reasonedit.images import load_image
from reasonedit.registry import lookup

PATTERNS = "patterns"
"""The name of 128 fixed patterns."""
OWN = "own"
"""The name of the user's own pictures: a calibration, a stream's pool, or what is asked about; patterns until then."""

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}
_MOST = 500
"""Images that are used of a folder."""


def reference_images(source: str) -> list[Image.Image]:
    """Unrelated pictures on which statistics are measured.

    Args:
        source: ``"patterns"`` (128 fixed colourful patterns, the same on every machine); ``"own"`` (the same patterns,
            until there are pictures like those that are asked about: see :mod:`reasonedit.calibration`); a name that a
            package offers (``"world"``: 150 scenes of the embedded world; see :mod:`reasonedit.registry`); or a folder
            of images, of which, folders in it included, up to 500 at even steps are used.

    Raises:
        InputError: The folder holds fewer than two images, or one that cannot be read.
    """
    if source in (PATTERNS, OWN):
        rng = np.random.default_rng(0)
        coarse = (Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)) for _ in range(128))
        return [image.resize((96, 96), Image.Resampling.BICUBIC) for image in coarse]
    offered = lookup("references", source)
    if offered is not None:
        images: list[Image.Image] = offered.reference_images()
        return images
    paths = pictures_in(Path(source))
    if len(paths) < 2:
        raise InputError(
            f"There are fewer than two reference images in '{source}': give 'own', 'patterns', 'world' or a folder of "
            "pictures."
        )
    return [load_image(p) for p in paths[:: -(-len(paths) // _MOST)]]


def reference_things(source: str) -> tuple[list[Image.Image], list[int]]:
    """Pictures of things, each thing several times; discriminants are computed from them in closed form.

    Args:
        source: A name that a package offers (``"world"``: 5,520 pictures of 1,236 things, no novel kind of the embedded
            world among them), or a folder with one folder of pictures per thing.

    Returns:
        The pictures, and the number of the thing that each shows.

    Raises:
        InputError: There are no two things with two pictures each.
    """
    offered = lookup("references", source)
    if offered is not None and hasattr(offered, "reference_things"):
        things: tuple[list[Image.Image], list[int]] = offered.reference_things()
        return things
    folders = [f for f in sorted(Path(source).glob("*")) if f.is_dir() and len(pictures_in(f)) > 1]
    if len(folders) < 2:
        raise InputError(
            f"The transform 'discriminant' learns from pictures of things: '{source}' should be 'world', or a folder "
            "with one folder per thing, each of two pictures or more."
        )
    paths = [(number, path) for number, folder in enumerate(folders) for path in pictures_in(folder)]
    return [load_image(path) for _, path in paths], [number for number, _ in paths]


def is_named(source: str) -> bool:
    """Whether a source of unrelated pictures has a name, by which it is the same on every machine, and is no folder."""
    return source in (PATTERNS, OWN) or lookup("references", source) is not None


def pictures_in(folder: Path) -> list[Path]:
    """The pictures in a folder and in folders within it, linked ones too, in the order of their paths."""
    return [path for path in files_in(folder) if path.suffix.lower() in _SUFFIXES]


def files_in(folder: Path) -> list[Path]:
    """The files in a folder and in folders within it, in the order of their paths; a linked folder counts once."""
    files: list[Path] = []
    entered: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in entered:
            folders.clear()
            continue
        entered.add(place)
        folders.sort()
        files += [Path(parent, name) for name in names]
    return sorted(files)
