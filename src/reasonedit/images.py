"""Images in: from a file, bytes or PIL, brought upright and to RGB."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from reasonedit.errors import ReasonEditError

SMALLEST_SIDE = 4
"""Pixels: an image with a shorter side cannot be cut into windows, and shows nothing."""

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
        name = f"'{path}'"
        try:
            if not path.is_file():
                raise ReasonEditError(f"There is no image file {name}: check the path.")
            data = path.read_bytes()
        except OSError as error:
            raise ReasonEditError(
                f"The image {name} cannot be opened ({error.strerror}): check its permissions."
            ) from error
        opened = _open_bytes(data, name)
    else:
        raise ReasonEditError(f"An image must be a PIL image, a path or bytes, not {type(source).__name__}.")
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


def _open_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ReasonEditError(f"The image {name} is empty (zero bytes): the file was not written completely.")
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:
        raise ReasonEditError(
            f"The image {name} is not in a format that Pillow reads: save it as PNG or JPEG."
        ) from error
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise ReasonEditError(f"The image {name} cannot be read ({error}).") from error


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale a grey picture to 0..255: 16-bit integers by their range, anything else by what is in the picture."""
    pixels = np.asarray(image, dtype=np.float64)
    low, high = (0.0, 65535.0) if image.mode.startswith("I;16") else (float(pixels.min()), float(pixels.max()))
    return Image.fromarray(((pixels - low) * (255 / ((high - low) or 1.0))).round().astype(np.uint8))
