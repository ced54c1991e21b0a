"""A loaded model of transformers as a VLM: which family serves it."""

from __future__ import annotations

import importlib
import logging
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.safe_text import to_safe_text

from .base import LocalVLM
from .checkpoint import unwrap_adapter

if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from .family import Family

_log = logging.getLogger(__name__)


def as_vlm(model: PreTrainedModel, processor: ProcessorMixin, name: str | None = None) -> LocalVLM:
    """Wrap a model that is loaded already; it is frozen and put into eval mode.

    Args:
        model: Any model of ``AutoModelForImageTextToText``, also with a PEFT adapter in it. What ``torch.compile``
            puts around a model is taken off, as its parts run by themselves here.
        processor: Its processor.
        name: The hub id or folder that saved codebooks name as its source. When not given, it is where the model was
            loaded from.

    Raises:
        InputError: The model cannot be served, or an adapter around it changes its prompts (PEFT's prompt learning).
    """
    model = unwrap_adapter(getattr(model, "_orig_mod", model))  # as torch.compile calls what it wraps
    name = name or model.config.name_or_path or type(model).__name__
    return _family_for(model.config, name)(model, processor, name)


def _family_for(config: Any, name: str) -> type[LocalVLM]:
    """The family that serves the model of a config, or ``AnyVLM`` where none does."""
    from .anyvlm import AnyVLM
    from .family import Family

    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):  # a family is known once its file is imported
        importlib.import_module(f"{__package__}.{module.name}")
    for family in _subclasses(Family):  # type: ignore[type-abstract]
        if family.serves(config):
            return family
    _log.warning(
        "No family serves '%s' (model type '%s'): each text runs alone, its image from the pixels each time, and "
        "images have no regions.",
        to_safe_text(name),
        config.model_type,
    )
    return AnyVLM


def _subclasses(cls: type[Family]) -> list[type[Family]]:
    return [f for sub in cls.__subclasses__() for f in (sub, *_subclasses(sub))]
