"""Pictures of any mode to RGB, in stripes where that takes more than one pass: to save memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from reasonedit.errors import InputError

_STRIPE = 1 << 20
"""Pixels that are converted at once."""

_UNMULTIPLIED = {"La": "LA", "RGBa": "RGBA"}
"""Modes whose colours are multiplied by their opacity, with the only modes to which Pillow converts them."""


def to_rgb(image: Image.Image, name: str) -> Image.Image:
    """Convert an image to RGB, transparent parts on white.

    Args:
        image: The image.
        name: What messages call it.

    Raises:
        InputError: No pixel of it is a finite number.
    """
    if image.mode.startswith(("I", "F")):  # more than 8 bits a pixel: Pillow would cut them off
        low, high = _grey_range(image, name)
        transparent = image.info.get("transparency")
        return _convert_stripes(image, lambda part: _to_eight_bits(part, low, high, transparent))
    if image.has_transparency_data:
        return _convert_stripes(image, _on_white)
    return image.convert("RGB")


def _convert_stripes(image: Image.Image, convert: Callable[[Image.Image], Image.Image]) -> Image.Image:
    rgb = Image.new("RGB", image.size)
    for stripe, top in _stripes(image):
        rgb.paste(convert(stripe).convert("RGB"), (0, top))
    return rgb


def _stripes(image: Image.Image) -> Iterator[tuple[Image.Image, int]]:
    """Parts of an image over its full width, each with its first row."""
    rows = max(1, _STRIPE // image.width)
    for top in range(0, image.height, rows):
        yield image.crop((0, top, image.width, min(top + rows, image.height))), top


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert(_UNMULTIPLIED.get(image.mode, image.mode)).convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)


def _grey_range(image: Image.Image, name: str) -> tuple[float, float]:
    """The values of a grey picture that become black and white: of 16 bits their range, else its own pixels'."""
    has_16_bits = image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PPM")  # which Pillow scales
    if has_16_bits:
        return 0.0, 65535.0
    low, high = math.inf, -math.inf
    for stripe, _ in _stripes(image):
        pixels = np.asarray(stripe)
        known = pixels[np.isfinite(pixels)]
        if known.size:
            low, high = min(low, float(known.min())), max(high, float(known.max()))
    if low > high:
        raise InputError(f"{name} has no pixel that is a finite number: save it again.")
    return low, high


def _to_eight_bits(image: Image.Image, low: float, high: float, transparent: object) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    scaled = ((np.where(np.isfinite(pixels), pixels, low) - low) * (255 / ((high - low) or 1.0))).round()
    grey = scaled.astype(np.uint8)
    if isinstance(transparent, int):  # a grey value
        grey[pixels == transparent] = 255
    return Image.fromarray(grey)
