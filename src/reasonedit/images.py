"""Images in: from a file, bytes or PIL, brought upright and to RGB."""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reasonedit.errors import ReasonEditError

SMALLEST_SIDE = 4
"""Pixels: an image with a shorter side cannot be cut into windows, and shows nothing."""

LONGEST_SHOWN = 300
"""Characters of a path in a message."""

MOST_PIXELS = 100_000_000
MOST_BYTES = 256 * 2**20
"""Of an image: more than a camera makes; a small file may claim to be larger than any memory."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Plain raster formats. Pillow reads others with the help of other programs, which a picture must not start."""

ImageSource = Image.Image | str | os.PathLike[str] | bytes


def load_image(source: ImageSource) -> Image.Image:
    """Read an image, turn it upright by its EXIF orientation and convert it to RGB.

    Args:
        source: A PIL image, a path, or the bytes of an image file.

    Returns:
        An RGB image. Transparent parts are shown on white.

    Raises:
        ReasonEditError: The file is missing, empty, no image that can be read, or only a few pixels wide or high.
    """
    if isinstance(source, Image.Image):
        opened, name = source, "the given image"
    elif isinstance(source, bytes):
        opened, name = _open_bytes(source, "the given bytes"), "the given bytes"
    elif isinstance(source, (str, os.PathLike)):
        path = Path(source)
        name = f"'{path}'" if len(str(path)) < LONGEST_SHOWN else f"'{str(path)[:LONGEST_SHOWN]}…'"
        try:
            if not path.is_file():
                raise ReasonEditError(f"There is no image file {name}: check the path.")
            if path.stat().st_size > MOST_BYTES:
                raise ReasonEditError(f"The image {name} has more than {MOST_BYTES >> 20} MiB, which is the most.")
            data = path.read_bytes()
        except OSError as error:
            raise ReasonEditError(
                f"The image {name} cannot be opened ({error.strerror}): check its permissions."
            ) from error
        opened = _open_bytes(data, name)
    else:
        raise ReasonEditError(f"An image must be a PIL image, a path or bytes, not {type(source).__name__}.")
    if opened.width * opened.height > MOST_PIXELS:  # known before anything is unpacked
        raise ReasonEditError(
            f"The image {name} is {opened.width} x {opened.height} pixels: {MOST_PIXELS // 10**6} million are the most."
        )
    try:
        upright = ImageOps.exif_transpose(opened)
        if min(upright.size) < SMALLEST_SIDE:
            raise ReasonEditError(
                f"The image {name} is {upright.width} x {upright.height} pixels: both sides must have at least "
                f"{SMALLEST_SIDE}."
            )
        if upright.mode.startswith(("I", "F")):  # more than 8 bits a pixel: Pillow would cut them off
            upright = _to_eight_bits(upright)
        if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
        return upright.convert("RGB")
    except ReasonEditError:
        raise
    except (OSError, ValueError, SyntaxError) as error:
        raise ReasonEditError(f"The image {name} is damaged ({error}): save it again as PNG or JPEG.") from error


def inside(folder: Path, name: str) -> Path:
    """A file in a folder, by a name that somebody else gave.

    Raises:
        ReasonEditError: The name leads out of the folder.
    """
    path = folder / name
    try:
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a NUL, a loop of links, a name that is too long
        stays = False
    if not stays:
        raise ReasonEditError(
            f"The image path {name[:200]!r} leads out of the folder '{folder}': put the image into it."
        )
    return path


def _open_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ReasonEditError(f"The image {name} is empty (zero bytes): the file was not written completely.")
    if len(data) > MOST_BYTES:
        raise ReasonEditError(f"The image {name} has more than {MOST_BYTES >> 20} MiB, which is the most.")
    Image.init()  # else only some formats are known by name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ReasonEditError(
            f"The image {name} is in no format that is read here ({', '.join(FORMATS)}): save it as PNG or JPEG."
        ) from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ReasonEditError(f"The image {name} cannot be read ({error}).") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a grey picture to 0..255: 16-bit integers by their range, anything else by what is in the picture."""
    pixels = np.asarray(image, dtype=np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (float(pixels.min()), float(pixels.max()))
    return Image.fromarray(((pixels - low) * (255 / ((high - low) or 1.0))).round().astype(np.uint8))
