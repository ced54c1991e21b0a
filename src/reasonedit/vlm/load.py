"""Load a VLM by its name: onto this machine, or behind an endpoint."""

from __future__ import annotations

from typing import Any

from .endpoint.names import is_endpoint
from .interface import VLM


def load_vlm(model: str, *, dtype: str = "auto", place: bool = False, **kwargs: Any) -> VLM:
    """Load a VLM, frozen and in eval mode. Its config names its family.

    Args:
        model: A hub id, a local folder, the folder of a PEFT adapter, or a name that a package offers (``"embedded"``:
            the embedded VLM, which is assembled in the user's cache when it is first asked for). Or
            ``"openai:MODEL"``: a VLM behind an endpoint that speaks OpenAI's protocol.
        dtype: ``"auto"`` (bfloat16 or float32, whichever the machine computes faster) or the name of a torch type.
        place: Whether to move the model to the GPU, if there is one. Lightning does that for its modules itself.
        **kwargs: Passed on to ``from_pretrained``: ``device_map``, ``attn_implementation``, ``quantization_config`` (an
            object of transformers, or a dict of its values), ``revision`` (of an adapter on the hub its own; its config
            names that of its model), … Code that comes with a model runs only with ``trust_remote_code=True``. Of a VLM
            behind an endpoint: ``base_url``, ``vision`` and the other settings of
            :class:`~reasonedit.vlm.endpoint.names.EndpointSettings`.

    Raises:
        NotFoundError: There is no such model.
        UnavailableError: The base model of an adapter, a package or the endpoint cannot be reached, or the memory does
            not suffice.
        InputError: The model cannot be read, its weights are incomplete, it does not take images and text, or an
            argument is wrong.
    """
    if is_endpoint(model):
        from .endpoint.load import load_endpoint

        return load_endpoint(model, dtype=dtype, **kwargs)
    from .local import load_local

    return load_local(model, dtype=dtype, place=place, **kwargs)
