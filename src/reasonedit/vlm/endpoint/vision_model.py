"""A vision model by itself as what sees pictures for keys: of open_clip, or of transformers."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from reasonedit.errors import InputError, UnavailableError
from reasonedit.util.finite import check_finite
from reasonedit.util.threads import guard_of, guarded
from reasonedit.util.weights import digest_of, weight_sums

from ..checkpoint import first_line
from ..identity import settings_of
from ..vision import IMAGE_FEATURES, Seen, Vision
from .encoder import blocks_of, clean_text

OPEN_CLIP = "open_clip:"
"""How names of open_clip's models begin."""


class VisionModel:
    """A vision model of square pictures, cut into patches: the whole picture is brought to its size.

    Its layers are its blocks, and :data:`IMAGE_FEATURES`: what leaves the last of them. A CLS token and registers,
    which come before the patches, are left out.

    Args:
        model: The model.
        pixels: What makes its input of pictures: float32 (B, 3, H, W).
        name: What it is called.
        settings: What else its output depends on.
    """

    projector = IMAGE_FEATURES

    def __init__(
        self, model: nn.Module, pixels: Callable[[Sequence[Image.Image]], Tensor], name: str, settings: dict[str, Any]
    ) -> None:
        self.model: Any = model.eval().requires_grad_(False)
        self.name, self._pixels, self._settings = name, pixels, settings
        self.blocks = blocks_of(model)
        if not self.blocks:
            raise InputError(f"The vision model '{name}' has no list of blocks whose input could be read.")

    @property
    def guard(self) -> Any:
        """The lock of the thread that uses it."""
        return guard_of(self.model)

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return torch.device(next(self.model.parameters()).device)

    @property
    def dtype(self) -> torch.dtype:
        """The type of its weights."""
        dtype: torch.dtype = next(self.model.parameters()).dtype
        return dtype

    @property
    def vision_layers(self) -> list[str]:
        """Its blocks, and what leaves them."""
        count = len(list(self.model.get_submodule(self.blocks).children()))
        return [*(f"{self.blocks}.{i}" for i in range(count)), IMAGE_FEATURES]

    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of any layer depend on."""
        sums = weight_sums(self.model)
        return {
            "architecture": type(self.model).__name__,
            "vision_weights": sums.of(sums.rounded),
            "vision_config": digest_of(str(self.model)),
            "image_processor": digest_of(self._settings),
        }

    def clean(self, text: str) -> str:
        """See :func:`.encoder.clean_text`."""
        return clean_text(text)

    @guarded
    @torch.inference_mode()
    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run the model once; see :meth:`VLM.see`.

        Raises:
            InputError: The model has no such layer.
        """
        names = self.vision_layers
        unknown = [name for name in layers if name not in names]
        if unknown:
            raise InputError(
                f"The vision model '{self.name}' has no layer '{unknown[0]}': there are {', '.join(names)}."
            )
        pixels = self._pixels(images).to(self.device, self.dtype)
        recorded: dict[str, Tensor] = {}
        thread = threading.get_ident()

        def keep(name: str, states: Any) -> None:
            if threading.get_ident() == thread:
                recorded[name] = states[0] if isinstance(states, tuple) else states

        with ExitStack() as hooks:
            for name in layers:
                module = self.model.get_submodule(name if name != IMAGE_FEATURES else names[-2])
                if name == IMAGE_FEATURES:
                    handle = module.register_forward_hook(lambda _m, _a, output, n=name: keep(n, output))
                else:
                    handle = module.register_forward_pre_hook(
                        lambda _m, args, kwargs, n=name: keep(n, args[0] if args else kwargs["hidden_states"]),
                        with_kwargs=True,
                    )
                hooks.callback(handle.remove)
            self.model(pixels)
        size = pixels[0].numel() if len(pixels) else 0
        return Vision(
            [self._seen({name: states[i] for name, states in recorded.items()}, size) for i in range(len(images))]
        )

    def _seen(self, layers: dict[str, Tensor], pixels: int) -> Seen:
        grids = {name: _as_grid(check_finite(states, f"The layer '{name}'").clone()) for name, states in layers.items()}
        return Seen(torch.empty(0, 0), grids, "", 0, pixels)


def _as_grid(states: Tensor) -> Tensor:
    """Patches of a picture as (rows, columns, D), of tokens (N, D) or of a map (D, H, W) or (H, W, D)."""
    if states.dim() == 3:
        return states if states.shape[0] == states.shape[1] else states.permute(1, 2, 0)
    side = math.isqrt(len(states))
    return states[len(states) - side * side :].reshape(side, side, -1)


def best_device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def load_open_clip(name: str) -> VisionModel:
    """The vision part of an open_clip model.

    Args:
        name: ``open_clip:NAME/WEIGHTS``, the weights by open_clip's name of them or as a file.

    Raises:
        InputError: The name has no weights.
        UnavailableError: The model cannot be had.
    """
    import open_clip

    architecture, _, weights = name.removeprefix(OPEN_CLIP).partition("/")
    if not weights:
        raise InputError(f"'{name}' names no weights: write {OPEN_CLIP}NAME/WEIGHTS.")
    try:
        source = weights if not Path(weights).suffix else str(Path(weights).expanduser())
        made, _, transform = open_clip.create_model_and_transforms(
            architecture, pretrained=source, image_resize_mode="squash"
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise UnavailableError(
            f"The open_clip model '{name}' is not available ({first_line(error)}): name architecture and weights that "
            "open_clip lists, or a file of weights."
        ) from error

    def pixels(images: Sequence[Image.Image]) -> Tensor:
        return torch.stack([transform(image) for image in images])

    return VisionModel(made.visual.to(best_device()), pixels, name, {"transform": str(transform)})


def load_vision_model(name: str, dtype: torch.dtype, *, trust_remote_code: bool = False) -> VisionModel:
    """A vision model of transformers, or the vision part of one of images and texts.

    Args:
        name: Its hub id or folder.
        dtype: The type of its weights.
        trust_remote_code: Whether its own code may run.

    Raises:
        UnavailableError: It cannot be had.
    """
    from transformers import AutoImageProcessor, AutoModel

    try:
        whole = AutoModel.from_pretrained(name, dtype=dtype, trust_remote_code=trust_remote_code)
        processor: Any = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
            name, trust_remote_code=trust_remote_code
        )
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise UnavailableError(f"The vision model '{name}' is not available: {first_line(error)}") from error
    model = getattr(whole, "vision_model", whole)
    side = int(getattr(model.config, "image_size", 0) or 224)
    options = {"size": {"height": side, "width": side}, "do_resize": True, "do_center_crop": False}

    def pixels(images: Sequence[Image.Image]) -> Tensor:
        return torch.as_tensor(processor(images=list(images), return_tensors="pt", **options)["pixel_values"])

    settings = {"class": type(processor).__name__, **settings_of(processor), **options}
    return VisionModel(model.to(best_device()), pixels, name, settings)
