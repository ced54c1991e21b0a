"""Models of published shapes with random weights, for timings without a download."""

from __future__ import annotations

from typing import Any

import torch
import transformers as tf

from reasonedit.data.world.embedded import assemble_embedded_vlm
from reasonedit.vlm import VLM, as_vlm

_VICUNA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "max_position_embeddings": 4096,
    "vocab_size": 49280,  # that of the tokenizer used here, which is larger than its own
}
_CHAT = (
    "{% for m in messages %}USER: {% for p in m['content'] %}{% if p['type'] == 'image' %}IMAGE"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} ASSISTANT:{% endif %}"
)


def _tokenizer(*special: str) -> Any:
    tokenizer = tf.AutoTokenizer.from_pretrained(assemble_embedded_vlm())
    tokenizer.add_tokens(["<image>", *special], special_tokens=True)
    return tokenizer


def _cut(values: dict[str, Any], name: str, depth: int | None) -> dict[str, Any]:
    return values if depth is None else {**values, name: min(depth, values[name])}


def llava(depth: int | None) -> tuple[type, Any, Any]:
    """LLaVA-1.5-7B: CLIP-L/14 at 336 pixels, Vicuna-7B."""
    tokenizer = _tokenizer()
    tower = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    config = tf.LlavaConfig(
        vision_config=tf.CLIPVisionConfig(
            **_cut(tower, "num_hidden_layers", depth), image_size=336, patch_size=14, projection_dim=768
        ),
        text_config=tf.LlamaConfig(**_cut(_VICUNA, "num_hidden_layers", depth)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = tf.CLIPImageProcessor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
    processor = tf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_CHAT.replace("IMAGE", "<image>\n"),
    )
    return tf.LlavaForConditionalGeneration, config, processor


def qwen3_vl(depth: int | None) -> tuple[type, Any, Any]:
    """Qwen3-VL-4B."""
    tokenizer = _tokenizer("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tower = {
        "depth": 24,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_heads": 16,
        "out_hidden_size": 2560,
        "deepstack_visual_indexes": [5, 11, 17] if depth is None else [0],
    }
    text = {
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 262144,
        "vocab_size": 151936,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_section": [24, 20, 20],
            "mrope_interleaved": True,
        },
    }
    config = tf.Qwen3VLConfig(
        text_config=_cut(text, "num_hidden_layers", depth),
        vision_config=_cut(tower, "depth", depth),
        tie_word_embeddings=True,
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    images = tf.Qwen2VLImageProcessor(
        patch_size=16, merge_size=2, size={"shortest_edge": 256 * 256, "longest_edge": 4096 * 4096}
    )
    chat = _CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    processor = tf.Qwen3VLProcessor(images, tokenizer, tf.Qwen3VLVideoProcessor(), chat_template=chat)
    return tf.Qwen3VLForConditionalGeneration, config, processor


def instructblip(depth: int | None) -> tuple[type, Any, Any]:
    """InstructBLIP on Vicuna-7B: ViT-g/14 at 224 pixels, a Q-Former of 12 layers."""
    tokenizer = _tokenizer()
    tower = {"hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 39, "num_attention_heads": 16}
    qformer = {"vocab_size": 49280, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
    config = tf.InstructBlipConfig(
        vision_config={**_cut(tower, "num_hidden_layers", depth), "image_size": 224, "patch_size": 14},
        qformer_config={**_cut(qformer, "num_hidden_layers", depth), "encoder_hidden_size": 1408},
        text_config=tf.LlamaConfig(**_cut(_VICUNA, "num_hidden_layers", depth)).to_dict(),
        num_query_tokens=32,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = tf.BlipImageProcessor(size={"height": 224, "width": 224})
    processor = tf.InstructBlipProcessor(images, tokenizer, _tokenizer(), num_query_tokens=32)
    return tf.InstructBlipForConditionalGeneration, config, processor


SHAPES = {"llava-1.5-7b": llava, "qwen3-vl-4b": qwen3_vl, "instructblip-vicuna-7b": instructblip}


def build_vlm(name: str, depth: int | None = None) -> VLM:
    """A model of a published shape with random weights, in bfloat16, on the GPU where there is one.

    Args:
        name: One of :data:`SHAPES`.
        depth: So many layers of each part instead of all.
    """
    kind, config, processor = SHAPES[name](depth)
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    with torch.device(device):
        model = kind._from_config(config, dtype=torch.bfloat16)  # type: ignore[attr-defined]
    return as_vlm(model, processor, f"{name} ({'all' if depth is None else depth} layers)")
