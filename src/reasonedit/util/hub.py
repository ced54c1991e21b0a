"""What goes wrong where something is fetched from the Hub."""

from __future__ import annotations


def hub_errors() -> tuple[type[Exception], ...]:
    """What the Hub's client raises, and without a connection the HTTP client that it uses.

    Which one that is depends on the version of huggingface_hub: the Hub's own HTTP errors are derived from its errors.
    """
    from huggingface_hub import errors

    own = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return *own, *(base for base in errors.HfHubHTTPError.__bases__ if issubclass(base, Exception))
