"""The architecture of the embedded VLM: a small tower and a projector before SmolLM2-135M."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .scenes import SIZE

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlavaConfig, PretrainedConfig

USER = "User:"
ANSWER = "\nAssistant:"
"""A prompt is ``User: <image>`` and a line break, the facts and the question, a line break and ``Assistant:``."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if not loop.last %}\n{% endif %}{% endfor %}{% if add_generation_prompt %}\nAssistant:{% endif %}"
)

PATCH = 16
PATCHES_PER_SIDE = SIZE // PATCH
_VISION: dict[str, Any] = {
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "image_size": SIZE,
    "patch_size": PATCH,
    "vision_use_head": False,
}
_TEXT_WIDTH = 576


def llava_config(text_config: PretrainedConfig | None = None) -> LlavaConfig:
    """Configuration of the embedded VLM around a language model of SmolLM2-135M's width."""
    from transformers import LlamaConfig, LlavaConfig, SiglipVisionConfig

    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**_VISION),
        text_config=text_config or LlamaConfig(hidden_size=_TEXT_WIDTH),
        image_seq_length=PATCHES_PER_SIDE**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    config._attn_implementation = "eager"  # the fused backward pass is slow in bf16 on a CPU
    return config


def new_tower() -> nn.Module:
    """An untrained vision tower."""
    from transformers import SiglipVisionModel

    config: Any = llava_config().vision_config
    return SiglipVisionModel(config)


def new_projector() -> nn.Module:
    """An untrained projector from the tower's width to the language model's."""
    from transformers.models.llava.modeling_llava import LlavaMultiModalProjector

    return LlavaMultiModalProjector(llava_config())
