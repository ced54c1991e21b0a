"""Pictures of a data set that are decoded when they are looked at: thousands of decoded ones fill the memory."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.errors import InputError

from .decode import decode_image
from .files import image_name, read_image_bytes

_DECODED = 16
"""Pictures that stay decoded, the last ones that were looked at: the probes of an edit come close to each other."""


class PictureOnDemand(Image.Image):
    """An upright RGB image whose pixels are read from its file each time that they are needed.

    It is what :func:`~reasonedit.images.load_image` makes of the same source. Who changes its pixels gets them for
    good, as of any image.

    Args:
        source: Path or bytes of an image file.

    Raises:
        ReasonEditError: As for :func:`~reasonedit.images.load_image`; also later, where the file has changed meanwhile.
    """

    def __init__(self, source: Path | bytes) -> None:
        super().__init__()
        data = _bytes_of(source)
        image = decode_image(data, _name_of(source))
        self._source, self._digest = source, hashlib.sha256(data).digest()
        self._mode, self._size = image.mode, image.size
        self.readonly = 1  # who writes into it copies the pixels first, see Pillow's ``_ensure_mutable``

    @property
    def im(self) -> Any:
        """The pixels, as Pillow keeps them."""
        return _decode(self._source, self._digest).im if self._im is None else super().im

    @im.setter
    def im(self, im: Any) -> None:
        self._im = im

    def load(self) -> Any:
        """Access to the pixels, as for any image of Pillow's."""
        return self.im.pixel_access(self.readonly)


@lru_cache(maxsize=_DECODED)
def _decode(source: Path | bytes, digest: bytes) -> Image.Image:
    data = _bytes_of(source)
    if hashlib.sha256(data).digest() != digest:
        raise InputError(f"{_name_of(source)} has changed since it was first read: begin again.")
    return decode_image(data, _name_of(source), warn=False)


def _name_of(source: Path | bytes) -> str:
    return image_name(source) if isinstance(source, Path) else "The image given as bytes"


def _bytes_of(source: Path | bytes) -> bytes:
    return source if isinstance(source, bytes) else read_image_bytes(source)
