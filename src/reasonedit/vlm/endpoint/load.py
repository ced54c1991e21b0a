"""Open a VLM behind an endpoint, with what sees for its keys."""

from __future__ import annotations

from typing import Any

from reasonedit.errors import NotFoundError
from reasonedit.registry import lookup

from ..local import torch_dtype_of
from .connection import Connection
from .encoder import Encoder
from .model import EndpointVLM
from .names import EndpointSettings
from .served import find_out
from .vision_model import OPEN_CLIP, load_open_clip, load_vision_model


def load_endpoint(name: str, *, dtype: str = "auto", **settings: Any) -> EndpointVLM:
    """Open a VLM behind an endpoint.

    Args:
        name: ``openai:MODEL``, with settings behind a question mark if need be.
        dtype: The type of the weights of what sees.
        **settings: Values of :class:`EndpointSettings`.

    Raises:
        InputError: A setting cannot be used, or there is no key.
        NotFoundError: There is nothing that could see for the keys.
        UnavailableError: The endpoint or the weights cannot be had.
    """
    of_endpoint = EndpointSettings.of(name, **settings)
    connection = Connection(of_endpoint)
    served = find_out(connection)
    return EndpointVLM(connection, load_encoder(of_endpoint, dtype), served)


def load_encoder(settings: EndpointSettings, dtype: str = "auto") -> Encoder:
    """What sees for the keys of a VLM behind an endpoint.

    Args:
        settings: The VLM's.
        dtype: The type of the weights.

    Raises:
        NotFoundError: There is none of that name, or none is named and the VLM is not found by the endpoint's name.
        ReasonEditError: It cannot be loaded.
    """
    name = settings.vision or settings.model
    if name.startswith(OPEN_CLIP):
        return load_open_clip(name)
    try:
        if not _is_vlm(name, settings.trust_remote_code):
            return load_vision_model(name, torch_dtype_of(dtype), trust_remote_code=settings.trust_remote_code)
        from .tower import load_tower

        return load_tower(name, torch_dtype_of(dtype), trust_remote_code=settings.trust_remote_code)
    except NotFoundError as error:
        raise NotFoundError(
            f"There is nothing by the name '{name}' that could see for the keys of '{settings.lasting_name}': name it "
            "by vision=, the folder or hub id of the same VLM, open_clip:NAME/WEIGHTS, or a vision model of "
            "transformers."
        ) from error


def _is_vlm(name: str, trust_remote_code: bool) -> bool:
    """Whether a name is that of a model of images and text to text, and not of a vision model."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    if lookup("models", name) is not None:
        return True
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:
        raise NotFoundError(f"There is no model '{name}'.") from error
    return type(config) in AutoModelForImageTextToText._model_mapping
