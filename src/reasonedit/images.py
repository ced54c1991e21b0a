"""Images in: from a file, bytes or PIL, brought upright and to RGB."""

from __future__ import annotations

import io
import logging
import math
import os
import unicodedata
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from reasonedit.arrays import MOST_PIXELS, check_pixels, from_array, is_array
from reasonedit.errors import ReasonEditError
from reasonedit.regular import content
from reasonedit.shown import plain

if TYPE_CHECKING:
    from torch import Tensor

SMALLEST_SIDE = 4
"""Pixels: an image with a shorter side cannot be cut into windows, and shows nothing."""

LONGEST_SHOWN = 300
"""Characters of a path in a message."""

MOST_BYTES = 256 * 2**20
"""Of an image file: more than a camera makes."""

_STRIPE = 1 << 20
"""Pixels that are converted at once."""

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

_PLAIN = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours are multiplied by their opacity already, which Pillow converts to nothing else."""

_log = logging.getLogger(__name__)

if TYPE_CHECKING:
    ImageSource = Image.Image | str | os.PathLike[str] | bytes | np.ndarray[Any, Any] | Tensor
else:  # torch is not loaded for its name
    ImageSource = Image.Image | str | os.PathLike[str] | bytes | np.ndarray


def load_image(source: ImageSource, name: str = "") -> Image.Image:
    """Read an image, turn it upright by its EXIF orientation and convert it to RGB.

    An orientation that cannot be read is taken for none. Of a file with several frames the first is read, and a warning
    says so. Grey pictures of more than 8 bits are scaled to 8: those of 16 bits by their range, others by the pixels
    that they hold, without those that are no finite numbers, which are shown as the lowest.

    Args:
        source: A PIL image, a path, the bytes of an image file, or an array or tensor: see
            :func:`~reasonedit.arrays.from_array`.
        name: What messages call it, such as ``The image 'a.png'``; a path is called by itself where nothing is given.

    Returns:
        An RGB image. Transparent parts are shown on white.

    Raises:
        ReasonEditError: The file is missing, empty, cut short, no image that can be read, or only a few pixels wide or
            high; or no pixel of it is a finite number.
    """
    if isinstance(source, Image.Image):
        image, name = source, name or "The given image"
    elif isinstance(source, bytes):
        name = name or "The image given as bytes"
        image = _open_bytes(source, name)
    elif isinstance(source, (str, os.PathLike)):
        name = name or file_name(Path(source))
        image = _open_bytes(image_bytes(Path(source), name), name)
    elif is_array(source):
        name = name or "The given image"
        image = from_array(source, name)
    else:
        raise ReasonEditError(f"An image must be a PIL image, a path, bytes or an array, not {type(source).__name__}.")
    check_pixels(*image.size, name)  # known before anything is unpacked
    try:
        several = image is not source and image.format != "MPO" and getattr(image, "is_animated", False)
        image.load()
        image = _upright(image)
        if min(image.size) < SMALLEST_SIDE:
            raise ReasonEditError(
                f"{name} is {image.width} x {image.height} pixels: both sides must have at least {SMALLEST_SIDE}."
            )
        image = _to_rgb(image, name)
    except (ReasonEditError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise what a damaged file leads them to
        raise ReasonEditError(
            f"{name} is damaged, or cut short ({_reason(error)}): save it again as PNG or JPEG."
        ) from error
    image.info = {}  # else its orientation would count again
    if several:
        _log.warning("%s has several frames: the first is used.", plain(name))
    return image


def image_bytes(path: Path, name: str = "") -> bytes:
    """What an image file holds.

    Args:
        path: The file.
        name: As for :func:`load_image`.

    Raises:
        ReasonEditError: There is none, or it is too large, or cannot be read.
    """
    name = name or file_name(path)
    try:
        return content(as_spelt(path), MOST_BYTES, name)
    except ReasonEditError:
        raise
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ReasonEditError(f"There is no image file {_cut(path)}: check the path.") from error
    except (OSError, ValueError) as error:
        raise ReasonEditError(f"{name} cannot be opened ({_reason(error)}): check its permissions.") from error


def file_name(path: Path) -> str:
    """What messages call an image file."""
    return f"The image {_cut(path)}"


def inside(folder: Path, name: str) -> Path:
    """A file in a folder, by a name that somebody else gave.

    Raises:
        ReasonEditError: The name leads out of the folder, or can be that of no file.
    """
    try:
        path = as_spelt(folder / name)
        path.is_file()  # which a name that is too long does not survive
        stays = path.resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError) as error:  # a NUL, a loop of links, a name that is too long
        raise ReasonEditError(
            f"The image path {_shown(name)} cannot be opened ({_reason(error)}): check it."
        ) from error
    if not stays:
        raise ReasonEditError(
            f"The image path {_shown(name)} leads out of the folder '{folder}': put the image into it."
        )
    return path


def as_spelt(path: Path) -> Path:
    """A path as the file system spells it.

    A name of letters with marks can be written in several ways that look the same and are the same text (Unicode
    Standard Annex 15); some file systems keep the one, others the other. A file of exactly this spelling comes first;
    where several spellings are there and none is this one, it stays as it is, and there is no such file.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        step = found / part
        if not part.isascii() and not os.path.lexists(step) and found.is_dir():
            wanted = unicodedata.normalize("NFC", part)
            same = [name for name in os.listdir(found) if unicodedata.normalize("NFC", name) == wanted]
            step = found / same[0] if len(same) == 1 else step
        found = step
    return found


def _cut(path: Path) -> str:
    return f"'{path}'" if len(str(path)) < LONGEST_SHOWN else f"'{str(path)[:LONGEST_SHOWN]}…'"


def _open_bytes(data: bytes, name: str) -> Image.Image:
    if not data:
        raise ReasonEditError(f"{name} is empty (zero bytes): the file was not written completely.")
    if len(data) > MOST_BYTES:
        raise ReasonEditError(f"{name} has more than {MOST_BYTES >> 20} MiB, which is the most.")
    Image.init()  # else only some formats are known by name
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
            return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ReasonEditError(
            f"{name} is in no format that is read here ({', '.join(FORMATS)}): save it as PNG or JPEG."
        ) from error
    except Image.DecompressionBombError as error:  # Pillow's own bound, where it is lower, or twice as many as ours
        raise ReasonEditError(f"{name} has too many pixels: {MOST_PIXELS // 10**6} million are the most.") from error
    except MemoryError:
        raise
    except Exception as error:  # as above
        raise ReasonEditError(f"{name} cannot be read ({_reason(error)}): save it again as PNG or JPEG.") from error


def _upright(image: Image.Image) -> Image.Image:
    try:
        way = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # whatever a damaged block of EXIF leads to, the picture itself is whole
        return image
    return image if way is None else image.transpose(way)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert to RGB, transparent parts on white; where that takes more than a pass, in stripes, to save memory."""
    if image.mode.startswith(("I", "F")):  # more than 8 bits a pixel: Pillow would cut them off
        low, high = _range(image, name)
        clear = image.info.get("transparency")
        return _by_stripes(image, lambda part: _to_eight_bits(part, low, high, clear))
    if image.mode in ("RGBA", "LA", "PA", *_PLAIN) or "transparency" in image.info:
        return _by_stripes(image, _on_white)
    return image.convert("RGB")


def _by_stripes(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    made = Image.new("RGB", image.size)
    for part, top in _stripes(image):
        made.paste(convert(part).convert("RGB"), (0, top))
    return made


def _stripes(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """An image in parts of its full width, each with its first row."""
    rows = max(1, _STRIPE // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert(_PLAIN.get(image.mode, image.mode)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def _range(image: Image.Image, name: str) -> tuple[float, float]:
    """The values of a grey picture that become black and white: of 16 bits their range, else its own pixels'."""
    sixteen = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # which Pillow scales
    if sixteen:
        return 0.0, 65535.0
    low, high = math.inf, -math.inf
    for part, _ in _stripes(image):
        pixels = np.asarray(part)
        known = pixels[np.isfinite(pixels)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    if low > high:
        raise ReasonEditError(f"{name} has no pixel that is a finite number: save it anew.")
    return low, high


def _to_eight_bits(image: Image.Image, low: float, high: float, clear: object) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    shown = ((np.where(np.isfinite(pixels), pixels, low) - low) * (255 / ((high - low) or 1.0))).round()
    shown = shown.astype(np.uint8)
    if isinstance(clear, int):  # the grey value that stands for nothing
        shown[pixels == clear] = 255
    return Image.fromarray(shown)


def _reason(error: Exception) -> str:
    told = str(getattr(error, "strerror", None) or error)
    return told.splitlines()[0][:LONGEST_SHOWN] if told.strip() else type(error).__name__


def _shown(name: str) -> str:
    return f"{name[:200]!r}"
