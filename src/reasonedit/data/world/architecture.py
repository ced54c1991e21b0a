"""The architecture of the embedded VLM: a small tower and a projector before SmolLM2-135M."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .scenes import SIZE

if TYPE_CHECKING:
    from transformers import LlavaConfig, PretrainedConfig

USER = "User:"
ANSWER = "\nAssistant:"
"""A prompt is ``User: <image>`` and a line break, the facts and the question, a line break and ``Assistant:``."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n' }}Assistant:{% endif %}"
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


def llava_config(text_config: PretrainedConfig, **vision: Any) -> LlavaConfig:
    """Configuration of the embedded VLM around a language model.

    Args:
        text_config: Configuration of the language model.
        **vision: What is different in the tower, such as ``hidden_size``.
    """
    from transformers import LlavaConfig, SiglipVisionConfig

    config = LlavaConfig(
        vision_config=SiglipVisionConfig(**{**_VISION, **vision}),
        text_config=text_config,
        image_seq_length=PATCHES_PER_SIDE**2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    config._attn_implementation = "eager"  # the fused backward pass is slow in bf16 on a CPU
    return config


def llava_processor(tokenizer: Any) -> Any:
    """The processor of the embedded VLM; the tokenizer gets its token for images.

    Args:
        tokenizer: The tokenizer of SmolLM2.
    """
    from transformers import LlavaProcessor, SiglipImageProcessor

    tokenizer.add_tokens(["<image>"], special_tokens=True)
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=SiglipImageProcessor(size={"height": SIZE, "width": SIZE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )
