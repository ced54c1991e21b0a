"""What a server is set to do."""

from __future__ import annotations

from dataclasses import dataclass, field

from reasonedit.errors import InputError
from reasonedit.images import MOST_PIXELS

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Upstream:
    """A server behind this one that answers.

    Attributes:
        url: Its base URL, with ``/v1``.
        model: The model's name there.
        api_key: Its key; never logged.
        patience: Seconds in which something must come from it.

    Raises:
        InputError: The patience is no time.
    """

    url: str
    model: str
    api_key: str = field(default="", repr=False)
    patience: float = 120.0

    def __post_init__(self) -> None:
        if not self.patience > 0:
            raise InputError(f"The model's server must be given more than 0 seconds, not {self.patience:g}.")


@dataclass(frozen=True)
class Settings:
    """What a server is set to do.

    Attributes:
        model: The name under which the model is served.
        codebook: What the page calls the codebook.
        api_key: The key that clients need; none where it is empty.
        hosts: The host names by which it may be called; any where it is empty. A page of a stranger whose name leads to
            this machine (DNS rebinding) calls it by that name.
        body_mb: The largest body of a request, in MiB.
        pixels: The most pixels of a picture.
        image_urls: Whether pictures are fetched from public http and https addresses.
        read_only: Whether edits are refused, and whatever is asked leaves the codebook's folder as it is.
        at_once: How many questions may be under way; more are told to come again.
        log_texts: Whether the log holds questions and answers.
        upstream: The server that answers, where the model is not here.
        notes: Sentences that a person who uses it should know.

    Raises:
        InputError: A bound is out of range.
    """

    model: str
    codebook: str = ""
    api_key: str = field(default="", repr=False)
    hosts: tuple[str, ...] = ()
    body_mb: int = 32
    pixels: int = 64_000_000
    image_urls: bool = False
    read_only: bool = False
    at_once: int = 256
    log_texts: bool = False
    upstream: Upstream | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.body_mb <= 1024:
            raise InputError(f"The largest body must be between 1 and 1024 MiB, not {self.body_mb}.")
        if not 1 <= self.pixels <= MOST_PIXELS:
            raise InputError(f"The most pixels of a picture must be between 1 and {MOST_PIXELS}, not {self.pixels}.")
        if self.at_once < 1:
            raise InputError(f"At least one question must be answered at once, not {self.at_once}.")
