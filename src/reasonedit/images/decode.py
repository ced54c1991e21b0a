"""Decode an image within bounds, turn it upright, convert it to RGB."""

from __future__ import annotations

import io
import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.safe_text import to_safe_text

from .arrays import MOST_PIXELS, check_pixels, from_array, is_array
from .files import MOST_BYTES, image_name, read_image_bytes, reason_of
from .rgb import to_rgb

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_SIDE = 4
"""Pixels: an image with a shorter side cannot be cut into windows, and shows nothing."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
"""Plain raster formats. Pillow reads others with the help of other programs, which a picture must not start."""

_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""What brings a picture upright, by its orientation (Exif 2.32, 4.6.5.1.3)."""

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    ImageSource = Image.Image | str | os.PathLike[str] | bytes | np.ndarray[Any, Any] | Tensor
else:  # torch is not loaded for its name
    ImageSource = Image.Image | str | os.PathLike[str] | bytes | np.ndarray


def decode_image(source: ImageSource, name: str = "", *, warn: bool = True) -> Image.Image:
    """Read an image; see :func:`~reasonedit.images.load_image`.

    Args:
        source: What it is read from.
        name: What messages call it.
        warn: Whether to say that a file has several frames.

    Raises:
        ReasonEditError: As for :func:`~reasonedit.images.load_image`.
    """
    if isinstance(source, Image.Image):
        image, name = source, name or "The given image"
    elif isinstance(source, bytes):
        name = name or "The image given as bytes"
        image = _open_bytes(source, name)
    elif isinstance(source, (str, os.PathLike)):
        _refuse_address(source)
        name = name or image_name(Path(source))
        image = _open_bytes(read_image_bytes(Path(source), name), name)
    elif is_array(source):
        name = name or "The given image"
        image = from_array(source, name)
    else:
        raise InputError(f"An image must be a PIL image, a path, bytes or an array, not {type(source).__name__}.")
    check_pixels(*image.size, name)  # known before anything is unpacked
    try:
        has_frames = image is not source and image.format != "MPO" and getattr(image, "is_animated", False)
        image.load()
        image = _turn_upright(image)
        if min(image.size) < SMALLEST_SIDE:
            raise InputError(
                f"{name} is {image.width} x {image.height} pixels: both sides must have at least {SMALLEST_SIDE}."
            )
        image = to_rgb(image, name)
    except (ReasonEditError, MemoryError):
        raise
    except Exception as error:  # a damaged file can make Pillow's readers raise anything
        raise InputError(
            f"{name} is damaged, or cut short ({reason_of(error)}): save it again as PNG or JPEG."
        ) from error
    image.info = {}  # else its orientation would count again
    if has_frames and warn:
        _log.warning("%s has several frames: the first is used.", to_safe_text(name))
    return image


def _refuse_address(source: str | os.PathLike[str]) -> None:
    if isinstance(source, str) and source[:8].lower().startswith(("http://", "https://", "data:")):
        raise InputError(f"'{source[:80]}' is an address, which is not fetched: give a path, or the picture's bytes.")


def _open_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise InputError(f"{name} is empty (zero bytes): the file was not written completely.")
    if len(data) > MOST_BYTES:
        raise InputError(f"{name} has more than {MOST_BYTES >> 20} MiB, which is the limit.")
    Image.init()  # else Pillow knows only some formats by name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise InputError(
            f"{name} is in no format that is read here ({', '.join(FORMATS)}): save it as PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:  # Pillow's own bound, where it is lower, or twice as many as ours
        raise InputError(f"{name} has too many pixels: {MOST_PIXELS // 10**6} million is the limit.") from error
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise InputError(f"{name} cannot be read ({reason_of(error)}): save it again as PNG or JPEG.") from error


def _turn_upright(image: Image.Image) -> Image.Image:
    try:
        transposition = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block can raise anything; the picture itself is whole
        return image
    return image if transposition is None else image.transpose(transposition)
