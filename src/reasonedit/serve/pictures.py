"""Pictures in requests: data URIs, addresses on this server, and, where that is allowed, public addresses."""

from __future__ import annotations

import base64
import binascii
import io
import ipaddress
import re
import socket
import time
import warnings
from collections.abc import Callable
from typing import Any
from urllib.parse import urljoin, urlsplit

from PIL import Image

from reasonedit.errors import InputError
from reasonedit.images import load_image
from reasonedit.images.decode import FORMATS

from .problems import ApiError
from .settings import Settings

_DATA = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w=.+-]+)*;base64,", re.IGNORECASE)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_REDIRECTS = 3
_PATIENCE = 10.0
"""Seconds until something comes."""
_LONGEST = 60.0
"""Seconds in all."""


class PictureReader:
    """Reads the pictures that requests name.

    Args:
        settings: The bounds.
        own: Gives the picture at a path of this server, such as ``/v1/edits/ID/image``; ``None`` where there is none.
    """

    def __init__(self, settings: Settings, own: Callable[[str], Image.Image | None] = lambda _: None) -> None:
        self.settings, self.own = settings, own

    def read(self, source: str, param: str = "image") -> Image.Image:
        """Read a picture, upright and RGB.

        Args:
            source: A data URI, a path of this server, or a public address.
            param: The field that names it, for messages.

        Raises:
            ApiError: It is none of these, it is too large or no picture, or addresses are not allowed.
        """
        if source.startswith("/"):
            picture = self.own(source)
            if picture is None:
                raise ApiError(404, "There is no picture at that address of this server.", "not_found", param)
            return picture
        scheme = source[:8].lower()
        if scheme.startswith("data:"):
            return self._decode(_data_of(source, param), param)
        if scheme.startswith(("http:", "https:")):
            if not self.settings.image_urls:
                raise ApiError(
                    400,
                    "This server fetches no pictures: send the picture itself as a data URI (data:image/png;base64,…), "
                    "or start the server with --allow-image-urls.",
                    "image_url_not_allowed",
                    param,
                )
            return self._decode(fetch(source, self.settings.body_mb * 2**20, param), param)
        raise ApiError(400, "A picture must be a data URI: data:image/png;base64,…", "invalid_image", param)

    def _decode(self, data: bytes, param: str) -> Image.Image:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own bound is lower
                with Image.open(io.BytesIO(data), formats=FORMATS) as header:  # nothing is unpacked yet
                    pixels = header.width * header.height
        except Exception:  # load_image says what is wrong with it
            pixels = 0
        if pixels > self.settings.pixels:
            most = self.settings.pixels
            raise ApiError(400, f"The picture has {pixels} pixels: {most} is the limit.", "image_too_large", param)
        try:
            return load_image(data, "The picture")
        except InputError as error:
            raise ApiError(400, str(error), "invalid_image", param) from error


def _data_of(uri: str, param: str) -> bytes:
    begins = _DATA.match(uri)
    if begins is None:
        raise ApiError(400, "The data URI must hold base64: data:image/png;base64,…", "invalid_image", param)
    try:
        return base64.b64decode(uri[begins.end() :].strip(), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ApiError(400, "The base64 of the picture is broken: encode it again.", "invalid_image", param) from error


def as_data_uri(image: Image.Image) -> str:
    """A picture as a PNG in a data URI: nothing of it is lost."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def fetch(url: str, most: int, param: str) -> bytes:
    """Fetch a picture from a public address; nothing private can be reached by it, not by redirects either.

    A name is looked up once, and the connection goes to the address that was checked: a name that means something else
    the second time (DNS rebinding) gains nothing.

    Args:
        url: The address.
        most: How many bytes it may have.
        param: The field that names it.

    Raises:
        ApiError: It is private, cannot be reached, or is too large.
    """
    import httpx2

    end = time.monotonic() + _LONGEST
    for _ in range(_REDIRECTS + 1):
        parts = urlsplit(url)
        address = _public_address(url, param)
        host = f"[{address}]" if ":" in address else address
        port = f":{parts.port}" if parts.port else ""
        target = parts._replace(netloc=f"{host}{port}", fragment="").geturl()
        options: dict[str, Any] = {
            "headers": {"Host": parts.netloc.rpartition("@")[2], "Accept": "image/*"},
            "extensions": {"sni_hostname": parts.hostname},
        }
        try:
            with (
                httpx2.Client(timeout=_PATIENCE, trust_env=False, follow_redirects=False) as client,
                client.stream("GET", target, **options) as response,
            ):
                if response.is_redirect:
                    url = urljoin(url, response.headers.get("location", ""))
                    continue
                if response.status_code != 200:
                    raise _refused(f"its server says {response.status_code}", param)
                data = bytearray()
                for part in response.iter_bytes():
                    data += part
                    if time.monotonic() > end:
                        raise _refused("it comes too slowly", param)
                    if len(data) > most:
                        raise _refused(f"it has more than {most >> 20} MiB", param)
                return bytes(data)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise _refused(f"it cannot be reached ({type(error).__name__})", param) from error
    raise _refused("it leads from one address to the next", param)


def _public_address(url: str, param: str) -> str:
    """The IP address behind an address, if it and all others of that name are public."""
    try:
        parts = urlsplit(url)
        if parts.scheme.lower() not in ("http", "https") or not parts.hostname:
            raise _refused("only http and https addresses are", param)
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except (OSError, ValueError, UnicodeError) as error:
        raise _refused("there is no such host", param) from error
    addresses = [ipaddress.ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]
    for address in addresses:
        if not all(a.is_global and not a.is_multicast for a in (address, _carried_by(address))):
            raise _refused("it leads to a private address", param)
    return str(addresses[0])


def _carried_by(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> ipaddress.IPv4Address | Any:
    """The IPv4 address to which a gateway leads from an IPv6 address that holds one; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1] or address


def _refused(why: str, param: str) -> ApiError:
    return ApiError(400, f"The picture's address is not fetched: {why}.", "invalid_image_url", param)
