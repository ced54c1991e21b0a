"""The vision part of a VLM by itself: of its checkpoint only these weights are read."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from reasonedit.errors import InputError, ReasonEditError, UnavailableError

from ..anyvlm import AnyVLM
from ..base import LocalVLM
from ..checkpoint import check_weights, first_line
from ..identity import vision_roots
from ..local import Checkpoint
from ..wrap import as_vlm
from .vision_model import best_device

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"


def load_tower(name: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> LocalVLM:
    """A VLM whose vision part is here and whose language model is not: nothing but :meth:`~LocalVLM.see` runs.

    Its layers and its keys are those of the whole VLM.

    Args:
        name: The VLM's hub id, folder or offered name.
        dtype: The type of the weights.
        trust_remote_code: Whether code that comes with it may run.

    Raises:
        ReasonEditError: There is no such VLM, its vision part cannot be told from the rest, or its files do not hold
            it.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    hub = {"trust_remote_code": trust_remote_code}
    checkpoint = Checkpoint.find(name, hub)
    if checkpoint.adapter is not None:
        raise InputError(f"'{name}' is an adapter: name '{checkpoint.base}', whose vision part is to be read.")
    config = checkpoint.read_config()
    with contextlib.suppress(AttributeError):
        del config.quantization_config  # vision parts are left as they are
    try:
        processor = AutoProcessor.from_pretrained(checkpoint.base, **hub)  # type: ignore[no-untyped-call]
        with torch.device("meta"):
            outline: Any = AutoModelForImageTextToText.from_config(config, dtype=dtype)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        raise UnavailableError(f"The vision part of '{name}' cannot be loaded: {first_line(error)}") from error
    roots = vision_roots(_family_of(outline, processor, name))
    model = _load(outline, roots, checkpoint, dtype)
    model.to(best_device())
    for parent, child_name, child in _outside(outline, roots):  # without weights, it takes no memory
        place = next(path for path, module in outline.named_modules() if module is parent)
        model.get_submodule(place).add_module(child_name, child)
    model.hf_device_map = {"": str(best_device())}  # what is not here is on no device
    tower = as_vlm(model, processor, checkpoint.lasting_name)
    tower.files_digest = checkpoint.digest()
    return tower


def _family_of(model: Any, processor: Any, name: str) -> LocalVLM:
    vlm = as_vlm(model, processor, name)
    if isinstance(vlm, AnyVLM):
        raise InputError(
            f"The vision part of '{name}' cannot be told from the rest: name what sees for the keys, such as "
            "vision=open_clip:ViT-B-32/laion2b_s34b_b79k."
        )
    return vlm


def _load(outline: Any, roots: list[str], checkpoint: Checkpoint, dtype: torch.dtype) -> Any:
    """The model without all that is not its vision part.

    Args:
        outline: The whole model, without weights.
        roots: Names of the modules of its vision part.
        checkpoint: Where its files are.
        dtype: The type of the weights.
    """
    kind = type(outline)

    def begin(self: Any, config: Any, *args: Any, **kwargs: Any) -> None:
        kind.__init__(self, config, *args, **kwargs)
        for parent, name, _ in _outside(self, roots):
            delattr(parent, name)
        self.all_tied_weights_keys = {}

    part: Any = type(kind.__name__, (kind,), {"__init__": begin, "__module__": kind.__module__})
    missing: Iterable[str] = ()
    for files in _shards(checkpoint, roots):
        with _quiet(), contextlib.ExitStack() as opened:
            weights = _slices(files, opened)
            try:
                model, info = part.from_pretrained(
                    None, config=outline.config, state_dict=weights, dtype=dtype, output_loading_info=True
                )
            except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
                raise InputError(
                    f"The vision part of '{checkpoint.name}' cannot be loaded: {first_line(error)}"
                ) from error
        missing = info["missing_keys"]
        if not missing:
            break
    check_weights({"missing_keys": missing}, checkpoint.name)
    model.__class__ = kind
    return model.eval().requires_grad_(False)


def _outside(model: nn.Module, roots: list[str], path: str = "") -> list[tuple[nn.Module, str, nn.Module]]:
    """The largest modules that hold nothing of some others: each with its parent and its name there."""
    found = []
    for name, child in model.named_children():
        whole = f"{path}{name}"
        if any(root.startswith(f"{whole}.") for root in roots):
            found += _outside(child, roots, f"{whole}.")
        elif whole not in roots:
            found.append((model, name, child))
    return found


def _shards(checkpoint: Checkpoint, roots: list[str]) -> Iterator[list[str]]:
    """The weight files in which the vision part should be by the names of the weights; then all of them.

    Raises:
        InputError: There are no safetensors.
    """
    from transformers.utils.hub import cached_file

    def path_of(file: str) -> str | None:
        return cached_file(checkpoint.base, file, _raise_exceptions_for_missing_entries=False, **checkpoint.hub)

    try:
        single = path_of(_SINGLE)
        if single is not None:
            yield [single]
            return
        index = path_of(_INDEX)
        if index is None:
            raise InputError(f"The model '{checkpoint.name}' has no safetensors, of which a part could be read.")
        places = json.loads(Path(index).read_text(encoding="utf-8"))["weight_map"]
        words = {root.rpartition(".")[2] for root in roots}
        likely = {file for name, file in places.items() if words & set(name.split("."))}
        for files in filter(None, (likely, set(places.values()))):
            yield [path for file in sorted(files) if (path := path_of(file)) is not None]
    except ReasonEditError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnavailableError(f"The weights of '{checkpoint.name}' are not available: {first_line(error)}") from error


def _slices(files: Iterable[str], opened: contextlib.ExitStack) -> dict[str, Any]:
    """The weights in files, of which none is read before it is asked for."""
    from safetensors import safe_open

    handles = [opened.enter_context(safe_open(file, framework="pt")) for file in files]
    return {name: handle.get_slice(name) for handle in handles for name in handle.keys()}  # noqa: SIM118


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have transformers not warn of the weights that are left out."""
    log = logging.getLogger("transformers")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
