"""Vision-language models behind one interface; one file per family."""

from __future__ import annotations

import importlib
import logging
import os
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.errors import ReasonEditError
from reasonedit.registry import lookup
from reasonedit.shown import plain
from reasonedit.weights import files_of

from .base import VLM, best_dtype
from .checkpoint import adapter_of, check_files, check_weights, first_line, unwrapped
from .generation import Generation, Reply, generation_of
from .vision import IMAGE_FEATURES, Seen, Vision

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from .family import Family

__all__ = [
    "IMAGE_FEATURES",
    "VLM",
    "Generation",
    "Reply",
    "Seen",
    "Vision",
    "as_vlm",
    "best_dtype",
    "generation_of",
    "load_vlm",
]

_log = logging.getLogger(__name__)

_OF_THE_HUB = ("cache_dir", "force_download", "local_files_only", "revision", "subfolder", "token", "trust_remote_code")


def load_vlm(model: str, *, dtype: str = "auto", place: bool = False, **kwargs: Any) -> VLM:
    """Load a VLM by the family its config names, frozen and in eval mode.

    Args:
        model: A hub id, a local folder, the folder of a PEFT adapter, or a name that a package offers (``"embedded"``:
            the embedded VLM, which is assembled in the user's cache when it is first asked for).
        dtype: ``"auto"`` (what the machine computes fastest in, of bfloat16 and float32) or the name of a torch type.
        place: Whether to move the model to the GPU, if there is one; Lightning does that for its modules itself.
        **kwargs: Passed on to ``from_pretrained``: ``device_map``, ``attn_implementation``, ``quantization_config`` (an
            object of transformers, or a dict of its values), ``revision``, … Code that comes with a model is run with
            ``trust_remote_code=True`` only.

    Raises:
        ReasonEditError: There is no such model, it cannot be read, weights of it are missing or left over, or it is
            none of images and text to text.
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
        raise ReasonEditError(f"'{dtype}' is not a torch type: use auto, bfloat16, float16 or float32.")
    if "device" in kwargs:
        raise ReasonEditError("There is no argument 'device': use device_map, such as device_map='cuda'.")
    folder_of = lookup("models", model)
    path = str(folder_of()) if folder_of is not None else model
    kwargs["trust_remote_code"] = bool(kwargs.get("trust_remote_code"))  # else transformers asks on the terminal
    hub = {k: v for k, v in kwargs.items() if k in _OF_THE_HUB}
    check_files(path, model)
    adapter = adapter_of(path, hub)
    source = path if adapter is None else adapter.base
    if adapter is not None:
        check_files(source, source)
    try:
        config = AutoConfig.from_pretrained(source, **hub)
    except (OSError, ValueError) as error:
        _refuse_code(source, error)
        if (Path(source) / "config.json").is_file():  # it is a model, but not one that can be read
            raise ReasonEditError(f"The model '{source}' cannot be loaded: {first_line(error)}") from error
        if adapter is not None:
            raise ReasonEditError(
                f"'{model}' is an adapter for the model '{source}', which cannot be reached: load that one with the "
                "network, or name it in the adapter's adapter_config.json as a folder."
            ) from error
        raise ReasonEditError(
            f"There is no model '{model}': give 'embedded', a folder with a config.json, "
            "or a hub id that can be reached."
        ) from error
    remote = "AutoModelForImageTextToText" in getattr(config, "auto_map", {}) and kwargs.get("trust_remote_code")
    if not remote and type(config) not in AutoModelForImageTextToText._model_mapping:
        raise ReasonEditError(
            f"'{model}' is a model of type '{config.model_type}', none that transformers loads as one of images and "
            "text to text: name a vision-language model."
        )
    kind = best_dtype() if dtype == "auto" else getattr(torch, dtype)
    try:
        both: Any = AutoModelForImageTextToText.from_pretrained(source, dtype=kind, output_loading_info=True, **kwargs)
        loaded, told = both
        check_weights(told, source)
        if adapter is not None:
            adapter.put_on(loaded)
        holder = path if adapter is not None and adapter.has_processor else source
        processor = AutoProcessor.from_pretrained(holder, **hub)  # type: ignore[no-untyped-call]
    except ReasonEditError:
        raise
    except (OSError, ValueError, TypeError, RuntimeError, ImportError, SafetensorError) as error:
        _refuse_code(source, error)
        raise ReasonEditError(f"The model '{model}' cannot be loaded: {first_line(error)}") from error
    # A codebook names its model: from whatever folder it is opened.
    vlm = as_vlm(loaded, processor, os.path.abspath(model) if folder_of is None and Path(model).is_dir() else model)
    commit = getattr(config, "_commit_hash", None)
    vlm.files = files_of(source, commit) + (files_of(path) if adapter is not None else "")
    if place and "device_map" not in kwargs and vlm.movable and torch.cuda.is_available():
        vlm.model.to("cuda")
    return vlm


def _refuse_code(model: str, error: Exception) -> None:
    """Say what a model needs that was refused because it brings code.

    Raises:
        ReasonEditError: That is why it was.
    """
    if "trust_remote_code" in str(error):
        raise ReasonEditError(
            f"The model '{model}' brings code of its own, which can do whatever you can: read it, and then say "
            "--trust-remote-code, or trust_remote_code=True in Python."
        ) from error


def as_vlm(model: PreTrainedModel, processor: ProcessorMixin, name: str | None = None) -> VLM:
    """A model that is loaded already, as a VLM; it is frozen and put into eval mode.

    Args:
        model: Any of ``AutoModelForImageTextToText``, also with an adapter of PEFT in it.
        processor: Its processor.
        name: The hub id or folder that saved codebooks name as its source; where it was loaded from when not given.

    Raises:
        ReasonEditError: It is wrapped in something that changes its prompts (prompt learning of PEFT), or cannot be
            served.
    """
    model = unwrapped(model)
    name = name or model.config.name_or_path or type(model).__name__
    return _family_of(model.config, name)(model, processor, name)


def _family_of(config: Any, name: str) -> type[VLM]:
    """The family that serves the model of a config; that of any model where none does."""
    from .anyvlm import AnyVLM
    from .family import Family

    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")
    for family in _subclasses(Family):  # type: ignore[type-abstract]
        if family.serves(config):
            return family
    _log.warning(
        "No family serves '%s' (model type '%s'): each text runs alone, its image from the pixels each time, and "
        "images have no regions.",
        plain(name),
        config.model_type,
    )
    return AnyVLM


def _subclasses(cls: type[Family]) -> list[type[Family]]:
    return [f for sub in cls.__subclasses__() for f in (sub, *_subclasses(sub))]
