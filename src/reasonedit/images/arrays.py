"""Pictures from NumPy arrays and torch tensors."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from reasonedit.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_CHANNELS = (1, 2, 3, 4)  # grey, grey with alpha, RGB, RGB with alpha
_SMALLEST = 4  # pixels of a side; fewer are channels

MOST_PIXELS = 100_000_000
"""Of an image: more than a camera makes."""


def is_array(value: object) -> bool:
    """Whether something is an array of NumPy or a tensor of torch."""
    torch = sys.modules.get("torch")  # whoever has a tensor has loaded torch; nobody else waits for it
    return isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor))


def check_pixels(width: int, height: int, name: str) -> None:
    """Refuse a picture that is too large for memory; a small file may claim to hold one.

    Args:
        width: In pixels.
        height: In pixels.
        name: What messages call the picture.

    Raises:
        InputError: It has more than :data:`MOST_PIXELS`.
    """
    if width * height > MOST_PIXELS:
        raise InputError(f"{name} is {width} x {height} pixels: {MOST_PIXELS // 10**6} million is the limit.")


def from_array(values: np.ndarray[Any, Any] | Tensor, name: str = "The given image") -> Image.Image:
    """The picture that an array or a tensor holds; the given values are not changed.

    Shapes are (height, width), (height, width, channels) or (channels, height, width), with 1 to 4 channels: grey or
    RGB, each with or without alpha. Values are whole numbers of 8 bits, of 16 bits, truth values, shares from 0 to 1 as
    floating-point numbers, or 32-bit grey as Pillow has it. Each becomes what Pillow would read from a file:
    16-bit grey stays as it is, of 16-bit colours the upper 8 bits stay.

    Args:
        values: The array or tensor.
        name: What messages call it.

    Raises:
        InputError: The meaning of the values is unclear, or they are too many. The message says what would do.
    """
    if len(values.shape) in (2, 3):
        sides = sorted(values.shape)[-2:]  # before anything of it is copied
        check_pixels(sides[1], sides[0], name)
    array = _channels_last(_to_numpy(values))
    kind = array.dtype
    if kind == np.bool_:
        array = array.astype(np.uint8) * np.uint8(255)
    elif kind == np.uint16:
        if array.ndim == 3:
            array = (array >> 8).astype(np.uint8)
    elif np.issubdtype(kind, np.floating):
        array = _shares_to_bytes(array)
    elif kind != np.uint8 and not (kind == np.int32 and array.ndim == 2):
        raise InputError(
            f"A picture as an array of {kind} may mean anything: give 8-bit values (uint8), 16-bit values (uint16) or "
            "shares from 0 to 1 as floating-point numbers."
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _to_numpy(values: np.ndarray[Any, Any] | Tensor) -> np.ndarray[Any, Any]:
    if isinstance(values, np.ndarray):
        return np.asarray(values, values.dtype.newbyteorder("="))
    try:
        tensor = values.detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.float()  # NumPy knows no bfloat16
        return np.asarray(tensor.numpy())
    except (TypeError, RuntimeError) as error:  # sparse, quantised, without values, …
        raise InputError(
            f"A tensor of {values.dtype} and layout {values.layout} cannot be read as a picture: give a dense one of "
            "uint8."
        ) from error


def _channels_last(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The picture as (height, width) or (height, width, 2 to 4)."""
    shape = " x ".join(map(str, array.shape)) or "no"
    if array.ndim == 2 and min(array.shape) >= _SMALLEST:
        return array
    last = array.ndim == 3 and array.shape[2] in _CHANNELS and min(array.shape[:2]) >= _SMALLEST
    first = array.ndim == 3 and array.shape[0] in _CHANNELS and min(array.shape[1:]) >= _SMALLEST
    if last and first:
        raise InputError(
            f"Of a picture of {shape} numbers it cannot be told which are its channels: give it as a PIL image."
        )
    if not last and not first:
        raise InputError(
            f"An array of {shape} numbers is not a picture: it must be height x width, height x width x channels or "
            f"channels x height x width, with 1, 3 or 4 channels and at least {_SMALLEST} pixels a side."
        )
    if first:
        array = np.moveaxis(array, 0, 2)
    return array[:, :, 0] if array.shape[2] == 1 else array


def _shares_to_bytes(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Shares from 0 to 1 as 8 bits."""
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):  # both are NaN where one value is
        raise InputError("A picture as an array has values that are not finite: give shares from 0 to 1.")
    if low < 0:
        raise InputError(
            f"A picture as an array has values from {low:g} to {high:g}, as after a processor's normalisation: give it "
            "as it was before that."
        )
    if high > 1:
        raise InputError(
            f"A picture as an array of floating-point numbers has values up to {high:g}: give shares from 0 to 1, or "
            "8-bit values as uint8."
        )
    bytes_of_rows = np.empty(array.shape, np.uint8)
    for row, values in zip(bytes_of_rows, array, strict=True):  # one by one, to save memory
        row[:] = (values * 255).round()
    return bytes_of_rows
