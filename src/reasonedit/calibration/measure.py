"""Makes a calibration from pictures (ours)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib import metadata
from os import PathLike

from PIL import Image

from reasonedit.embedding import DualEmbedder, Statistics
from reasonedit.embedding.statistics import ReferenceTokens
from reasonedit.errors import InputError
from reasonedit.images import ImageSource
from reasonedit.vlm.devices import run_in_parts

from .calibration import Calibration
from .pictures import CalibrationPictures
from .record import CalibrationRecord

LEAST, ENOUGH = 16, 64
"""Fewer pictures are refused; fewer than enough are warned of."""

AT_ONCE = 32
"""Pictures that are read at once."""
_log = logging.getLogger(__name__)


def calibrate(
    embedder: DualEmbedder,
    pictures: str | PathLike[str] | Iterable[ImageSource] | CalibrationPictures,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> Calibration:
    """Take from unlabelled pictures what a VLM's layer makes of pictures like them.

    Args:
        embedder: Reads the layer.
        pictures: A folder, or the pictures: of the kind that will be asked about, none of which needs a label.
        done: Told how many pictures were read, and of how many.

    Raises:
        InputError: There are fewer than 16 distinct pictures that can be read, or one that was given cannot be; or the
            design embeds no pictures.
    """
    started = time.perf_counter()
    if not isinstance(pictures, CalibrationPictures):
        pictures = CalibrationPictures.of(pictures)
    record = CalibrationRecord.of(embedder, 0, pictures.name)
    reference = ReferenceTokens()

    def read(images: list[Image.Image]) -> None:
        run_in_parts(range(len(images)), AT_ONCE, lambda part: embedder.read([images[i] for i in part], reference))

    for images in pictures.parts(AT_ONCE):
        read(images)
        done(len(reference.wholes) + len(pictures.unreadable) + pictures.repeated, len(pictures))
    count = check_count(len(reference.wholes), pictures)
    if count < ENOUGH:
        _log.warning("A calibration by %d pictures is rough: %d or more are better.", count, ENOUGH)
    return finish(embedder.measure(reference), replace(record, pictures=count), pictures, started)


def check_count(count: int, pictures: CalibrationPictures) -> int:
    """The number of pictures, where it suffices.

    Raises:
        InputError: It does not.
    """
    left_out = " ".join(["", *pictures.describe_left_out()])
    if count < LEAST:
        raise InputError(
            f"A calibration takes at least {LEAST} distinct pictures, better {ENOUGH}: '{pictures.name}' has {count}."
            f"{left_out}"
        )
    return count


def finish(
    statistics: Statistics, record: CalibrationRecord, pictures: CalibrationPictures, started: float
) -> Calibration:
    """A calibration with all that is known of it at its end; it began at the time ``started`` (of ``perf_counter``)."""
    return Calibration(
        statistics,
        replace(
            record,
            left_out=pictures.describe_left_out(),
            seconds=round(time.perf_counter() - started, 2),
            versions={name: metadata.version(name) for name in ("reasonedit", "torch", "transformers")},
        ),
    )
