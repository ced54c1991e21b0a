"""The name of a VLM behind an endpoint, and what it is asked with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from reasonedit.errors import InputError

PREFIX = "openai:"
"""How names of models behind an endpoint begin."""
FORMATS = ("png", "jpeg")
_LASTING = ("base_url", "vision", "image_format")
"""Settings that are part of the name that a codebook stores: without them it is another VLM."""


def is_endpoint(model: str) -> bool:
    """Whether a name is that of a model behind an endpoint."""
    return model.startswith(PREFIX)


@dataclass(frozen=True)
class EndpointSettings:
    """Which model is asked, where and how.

    Attributes:
        model: The endpoint's name of the model.
        base_url: Where the endpoint is, with its ``/v1``; that of ``OPENAI_BASE_URL`` when empty.
        vision: What sees for the keys: the folder or hub id of the same VLM, of which only the vision part is read; an
            open_clip model (``open_clip:NAME/WEIGHTS``); or a vision model of transformers. When empty, the VLM of the
            endpoint's name of it.
        timeout: Seconds that one try of a request may take.
        retries: How often a request is tried again where the endpoint is busy, broken or not there.
        concurrency: The most requests under way at once.
        max_requests: The most requests of this process; no limit when not given.
        max_total_tokens: The most tokens of this process, read and written; no limit when not given.
        image_format: How pictures are sent: ``"png"``, which loses nothing, or ``"jpeg"``, which is smaller.
        trust_remote_code: Whether code that comes with the vision part may run.

    Raises:
        InputError: A value is out of range.
    """

    model: str
    base_url: str = ""
    vision: str = ""
    timeout: float = 120.0
    retries: int = 6
    concurrency: int = 8
    max_requests: int | None = None
    max_total_tokens: int | None = None
    image_format: str = "png"
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if not self.model:
            raise InputError(f"'{PREFIX}' names no model: write {PREFIX}MODEL, as the endpoint calls it.")
        if self.image_format not in FORMATS:
            raise InputError(f"image_format must be {' or '.join(FORMATS)}, not '{self.image_format}'.")
        for name, least in (("retries", 0), ("concurrency", 1), ("max_requests", 1), ("max_total_tokens", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise InputError(f"{name} must be {least} or more, not {value}.")
        if not self.timeout > 0:
            raise InputError(f"timeout must be above 0 seconds, not {self.timeout}.")
        if urlsplit(self.base_url).username is not None or urlsplit(self.base_url).password is not None:
            raise InputError("base_url holds a name or password, which codebooks would store: use OPENAI_API_KEY.")

    @classmethod
    def of(cls, name: str, **settings: Any) -> EndpointSettings:
        """The settings in a name, such as ``openai:llava?vision=/models/llava``, with others beside it or in its place.

        Raises:
            InputError: A setting is unknown or of another type.
        """
        model, _, query = name.removeprefix(PREFIX).partition("?")
        in_name = {key: _parse(key, value) for key, value in parse_qsl(query, keep_blank_values=True)}
        known = {field.name for field in fields(cls)} - {"model"}
        given = {**in_name, **{key: value for key, value in settings.items() if value is not None}}
        unknown = sorted(set(given) - known)
        if unknown:
            what = (
                "the key is read from OPENAI_API_KEY" if "key" in unknown[0] else f"it has {', '.join(sorted(known))}"
            )
            raise InputError(f"A model behind an endpoint has no setting '{unknown[0]}': {what}.")
        made = replace(cls(model), **{key: _check(key, value) for key, value in given.items()})
        is_folder = bool(made.vision) and os.path.isdir(made.vision)
        return replace(made, vision=os.path.abspath(made.vision)) if is_folder else made

    @property
    def lasting_name(self) -> str:
        """The name by which it is found again from any working folder, without any key."""
        default = EndpointSettings(self.model)
        kept = {key: getattr(self, key) for key in _LASTING if getattr(self, key) != getattr(default, key)}
        return f"{PREFIX}{self.model}" + (f"?{urlencode(kept, safe='/:')}" if kept else "")


_KINDS: Mapping[str, type] = {
    "base_url": str,
    "vision": str,
    "timeout": float,
    "retries": int,
    "concurrency": int,
    "max_requests": int,
    "max_total_tokens": int,
    "image_format": str,
    "trust_remote_code": bool,
}


def _parse(key: str, text: str) -> Any:
    """A setting that is written in a name."""
    kind = _KINDS.get(key, str)
    if kind is bool:
        raise InputError(f"'{key}' cannot be a part of a model's name: give it as an argument.")
    try:
        return kind(text)
    except ValueError as error:
        raise InputError(f"'{key}' in the name of a model must be a number, not '{text}'.") from error


def _check(key: str, value: Any) -> Any:
    """A setting, if it is of its type."""
    kind = _KINDS[key]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"'{key}' of a model behind an endpoint must be {kind.__name__}, not {value!r}.")
    return value
