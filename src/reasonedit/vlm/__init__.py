"""Vision-language models behind one interface; one file per family."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

from .base import VLM, Vision, best_dtype

__all__ = ["VLM", "Vision", "best_dtype", "load_vlm"]

EMBEDDED = "embedded"
"""Name of the embedded VLM, which is assembled in the user's cache when it is first asked for."""


def load_vlm(model: str, *, dtype: str = "auto", place: bool = False, **kwargs: Any) -> VLM:
    """Load a VLM by the family its config names, frozen and in eval mode.

    Args:
        model: A hub id, a local folder, or ``"embedded"`` for the embedded VLM.
        dtype: ``"auto"`` (what the machine computes fastest in, of bfloat16 and float32) or the name of a torch type.
        place: Whether to move the model to the GPU, if there is one; Lightning does that for its modules itself.
        **kwargs: Passed on to ``from_pretrained``: ``device_map``, ``attn_implementation``, ``quantization_config``, …

    Raises:
        ReasonEditError: There is no such model, it cannot be read, or no family serves it.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ReasonEditError(f"'{dtype}' is not a torch type: use auto, bfloat16, float16 or float32.")
    path: str | Path = model
    if model == EMBEDDED:
        from reasonedit.data.world.embedded import assembled

        path = assembled()
    try:
        config = AutoConfig.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise ReasonEditError(
            f"There is no model '{model}': give 'embedded', a folder with a config.json, "
            "or a hub id that can be reached."
        ) from error
    family = _family(config.model_type, model)
    kind = best_dtype() if dtype == "auto" else getattr(torch, dtype)
    try:
        loaded = AutoModelForImageTextToText.from_pretrained(path, dtype=kind, **kwargs)
        processor = AutoProcessor.from_pretrained(path)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, RuntimeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ReasonEditError(f"The model '{model}' cannot be loaded: {reason}") from error
    if place and "device_map" not in kwargs and torch.cuda.is_available():
        loaded.to("cuda")  # type: ignore[arg-type]
    return family(loaded, processor, model)


def _family(model_type: str, name: str) -> type[VLM]:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    families = VLM.__subclasses__()
    for family in families:
        if model_type in family.model_types:
            return family
    known = ", ".join(sorted(t for f in families for t in f.model_types))
    raise ReasonEditError(f"'{name}' is a model of type '{model_type}'; the families that are served are: {known}.")
