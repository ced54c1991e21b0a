"""Load an image."""

from __future__ import annotations

from PIL import Image

from .decode import ImageSource, decode_image
from .on_demand import PictureOnDemand


def load_image(source: ImageSource, name: str = "") -> Image.Image:
    """Read an image, turn it upright by its EXIF orientation and convert it to RGB.

    An orientation that cannot be read is ignored. Of a file with several frames the first is read, and a warning says
    so. Grey pictures of more than 8 bits are scaled to 8: those of 16 bits by their range, others by the finite values
    of their pixels. Pixels that are not finite are shown as the lowest value.

    Args:
        source: A PIL image, a path, the bytes of an image file, or an array or tensor: see
            :func:`~reasonedit.images.arrays.from_array`.
        name: What messages call it, such as ``The image 'a.png'``; the path when not given.

    Returns:
        An RGB image. Transparent parts are shown on white. A :class:`~reasonedit.images.PictureOnDemand` is one
        already, and stays what it is.

    Raises:
        NotFoundError: There is no such file.
        InputError: The file is empty, cut short, or no image that can be read; the image is only a few pixels wide or
            high, too large, or no pixel of it is a finite number.
        UnavailableError: The file cannot be opened.
    """
    return source if isinstance(source, PictureOnDemand) else decode_image(source, name)
