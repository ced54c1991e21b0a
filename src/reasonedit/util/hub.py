"""What goes wrong where something is fetched from the Hub."""

from __future__ import annotations


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises: of names ``ValueError``; without a connection what its HTTP client raises.

    Which HTTP client that is depends on the version of huggingface_hub; the errors of both have a base in common.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return ValueError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))
