"""Images in: from a file, bytes, PIL or an array, brought upright and to RGB."""

from __future__ import annotations

from .arrays import MOST_PIXELS, is_array
from .decode import ImageSource
from .files import LONGEST_SHOWN, check_unlinked, find_spelling, image_name, path_inside, read_image_bytes
from .load import load_image
from .on_demand import PictureOnDemand

__all__ = [
    "LONGEST_SHOWN",
    "MOST_PIXELS",
    "ImageSource",
    "PictureOnDemand",
    "check_unlinked",
    "find_spelling",
    "image_name",
    "is_array",
    "load_image",
    "path_inside",
    "read_image_bytes",
]
