"""The shapes of VLM that are trained here: the embedded VLM's, and two others in front of the same language model.

The others show whether a design that was found on the embedded VLM holds where the vision part is another one, as that
of a user's VLM is. Language model, adapter and the pictures of training are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from reasonedit.data.world.architecture import CHAT_TEMPLATE, llava_config, llava_processor
from reasonedit.data.world.scenes import SIZE

TOKENS_PER_SIDE = 6
"""Every shape gives a picture so many rows of so many tokens."""
_TEXT_WIDTH = 576

_NARROW: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 8,
    "num_attention_heads": 4,
}
_MERGED: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": [SIZE, SIZE],
    "patch_size": [8, 8],
    "layer_scale_init_value": 1.0,  # the published 0.1 is for towers many times as deep
}


@dataclass(frozen=True)
class Shape:
    """One shape.

    Attributes:
        config: The configuration around that of a language model.
        processor: The processor around a tokenizer, to which the tokens that the shape needs are added.
        says_places: Whether image tokens are trained to say where in the picture they are.
        around: Tokens of the language model whose embeddings stand before and after a picture's tokens.
    """

    config: Callable[[Any], Any]
    processor: Callable[[Any], Any]
    says_places: bool = True
    around: tuple[str, ...] = ()


def _narrow_config(text_config: Any) -> Any:
    return llava_config(text_config, **_NARROW)


def _merged_config(text_config: Any) -> Any:
    from transformers import InternVLConfig, InternVLVisionConfig

    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**_MERGED), text_config=text_config, image_seq_length=TOKENS_PER_SIDE**2
    )
    config._attn_implementation = "eager"  # the fused backward pass is slow in bf16 on a CPU
    return config


def _merged_processor(tokenizer: Any) -> Any:
    from transformers import GotOcr2ImageProcessor, InternVLProcessor, InternVLVideoProcessor, PreTrainedTokenizerFast

    names = ("start_image_token", "end_image_token", "context_image_token", "video_token")
    tokens = dict(zip(names, ("<img>", "</img>", "<IMG_CONTEXT>", "<video>"), strict=True))
    named = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer.backend_tokenizer, **tokenizer.special_tokens_map, extra_special_tokens=tokens
    )
    images = GotOcr2ImageProcessor(
        size={"height": SIZE, "width": SIZE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        max_patches=1,  # pictures as small as these are not cut into tiles
    )
    return InternVLProcessor(
        images,
        named,
        InternVLVideoProcessor(),
        image_seq_length=TOKENS_PER_SIDE**2,
        chat_template=CHAT_TEMPLATE.replace("<image>", "<IMG_CONTEXT>"),
    )


SHAPES: dict[str, Shape] = {
    "embedded": Shape(llava_config, llava_processor),
    "narrow": Shape(_narrow_config, llava_processor, says_places=False),
    "merged": Shape(_merged_config, _merged_processor, around=("<file_sep>", "<file_sep>")),
}
"""``embedded``: a SigLIP-like tower of 5 layers, 192 wide, 16-pixel patches, in a Llava. ``narrow``: 8 layers, 128 wide,
and tokens that say nothing of places. ``merged``: InternVL's tower of 4 layers, 128 wide, with a CLS token; 2 x 2 of its
8-pixel patches are merged into one token before the projector, which is of the same form as Qwen's merger."""


def new_vision_part(shape: Shape) -> Any:
    """An untrained model of a shape, with no layers of a language model: ``vision_tower`` and its projector."""
    from transformers import AutoModel, LlamaConfig

    stub = LlamaConfig(hidden_size=_TEXT_WIDTH, vocab_size=8, num_hidden_layers=0, pad_token_id=None)
    model: Any = AutoModel.from_config(shape.config(stub))
    for module in model.multi_modal_projector.modules():
        if isinstance(module, nn.Linear):
            module.reset_parameters()  # wider than transformers draws them, which is for deep models
    return model


def trained_part(model: Any) -> nn.ModuleDict:
    """What of a model is trained by scripts/align_tower.py, under the names by which it is saved."""
    return nn.ModuleDict({name: getattr(model, name) for name in ("vision_tower", "multi_modal_projector")})


def tokens_of(model: Any, views: Tensor) -> Tensor:
    """Image tokens of a model as its language model gets them: (B, P, D)."""
    with torch.autocast(views.device.type, torch.bfloat16):
        tokens = model.get_image_features(pixel_values=views).pooler_output
    return tokens if isinstance(tokens, Tensor) else torch.stack(tokens)
