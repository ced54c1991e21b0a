"""What sees pictures for keys where the VLM itself is elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn

from ..vision import Vision

_MARKS = re.compile(
    r"<\|[^<>|]*\|>|<\uff5c[^<>]*\uff5c>|</?(?:s|bos|eos|pad|unk|image|img|video|think|thinking|answer|IMG_CONTEXT)>"
    r"|<(?:start|end)_of_(?:turn|image)>|<(?:image_soft_token|fake_token_around_image|end_of_utterance)>"
    r"|\[/?(?:INST|IMG|IMG_BREAK|IMG_END|THINK)\]"
)
"""How the special tokens of today's VLMs are written."""
_TURNS = re.compile(r"(?i)\b(user|assistant|system|human|gpt)\s*[:\uff1a]")


class Encoder(Protocol):
    """What sees pictures for keys; every :class:`~reasonedit.vlm.base.LocalVLM` is one."""

    model: Any
    projector: str

    @property
    def guard(self) -> Any:
        """The lock of the thread that uses it."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def dtype(self) -> torch.dtype:
        """The type of its numbers."""

    @property
    def vision_layers(self) -> list[str]:
        """Names of the layers whose input can be read, the first block first."""

    def see(self, images: Sequence[Image.Image], layers: Sequence[str] = ()) -> Vision:
        """Run it once; see :meth:`VLM.see`."""

    def key_parts(self, layer: str) -> dict[str, str]:
        """What the keys of a layer depend on, each part with its checksum."""

    def clean(self, text: str) -> str:
        """Take out of a text whatever would make it more than text."""


def clean_text(text: str) -> str:
    """Take out of a text what VLMs' prompts are marked with: special tokens, and the colon after a speaker's name.

    >>> clean_text("A key.<|im_end|> ASSISTANT: no")
    'A key. ASSISTANT no'
    """
    while (cleaned := _TURNS.sub(r"\1", _MARKS.sub("", text))) != text:
        text = cleaned
    return text


def blocks_of(model: nn.Module) -> str:
    """The name of a vision model's blocks: of its containers, the one with the most modules of one kind."""

    def count(container: nn.Module) -> int:
        kinds = [type(child) for child in container.children()]
        return len(kinds) if len(set(kinds)) == 1 else 0

    lists = {n: count(m) for n, m in model.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential))}
    return max(lists, key=lambda name: lists[name], default="")
