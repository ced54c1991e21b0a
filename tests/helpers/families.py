"""A tiny model of every family, with random weights, saved like any other checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as tf

from .tiny import save_tiny_llava
from .tiny import tokenizer as tiny_tokenizer

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "initializer_range": 0.2,
}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 32,
    "patch_size": 8,
}
CHAT = (
    "{% for m in messages %}{{ m['role'] }}: {% for p in m['content'] %}{% if p['type'] == 'image' %}IMAGE"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}{% endfor %}{% if add_generation_prompt %} assistant:{% endif %}"
)


def words(*special: str, named: dict[str, str] | None = None, bos: bool = False) -> Any:
    """The tiny tokenizer with more special tokens."""
    tokenizer = tiny_tokenizer(bos=bos, named=named)
    tokenizer.add_tokens(list(special), special_tokens=True)
    return tokenizer


def text(tokenizer: Any, **more: Any) -> dict[str, Any]:
    """The text part of a config."""
    ends = {
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    return {"vocab_size": len(tokenizer) + 6, **TEXT, **ends, **more}


def save(folder: Path, kind: type, config: Any, processor: Any) -> Path:
    """Save a model with random weights and its processor."""
    torch.manual_seed(0)
    model = kind(config)
    for parameter in model.parameters():  # weights that begin at zero (projectors, queries) would hide mistakes
        if float(parameter.detach().abs().sum()) == 0 and parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def llava(folder: Path) -> Path:
    """LLaVA-1.5: a CLIP tower."""
    return save_tiny_llava(folder, tower="clip", bos=True)


def llava_next(folder: Path) -> Path:
    """LLaVA-NeXT: up to four tiles."""
    tokenizer = words()
    config = tf.LlavaNextConfig(
        vision_config=tf.CLIPVisionConfig(**VISION),
        text_config=tf.LlamaConfig(**text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
    )
    images = tf.LlavaNextImageProcessor(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
    )
    processor = tf.LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )
    return save(folder, tf.LlavaNextForConditionalGeneration, config, processor)


def llava_onevision(folder: Path) -> Path:
    """LLaVA-OneVision: SigLIP, Qwen2, tiles."""
    tokenizer = words("<video>")
    config = tf.LlavaOnevisionConfig(
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        text_config=tf.Qwen2Config(**text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]],
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
    )
    images = tf.LlavaOnevisionImageProcessor(
        size={"height": 32, "width": 32}, image_grid_pinpoints=[[32, 64], [64, 32], [64, 64]]
    )
    processor = tf.LlavaOnevisionProcessor(
        images,
        tokenizer,
        tf.LlavaOnevisionVideoProcessor(size={"height": 32, "width": 32}),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )
    return save(folder, tf.LlavaOnevisionForConditionalGeneration, config, processor)


def _qwen(folder: Path, generation: str) -> Path:
    tokenizer = words("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    ids = {
        "image_token_id": tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        "video_token_id": tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        "vision_start_token_id": tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        "vision_end_token_id": tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    }
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_heads": 4, "out_hidden_size": 48, "depth": 3}
    limits = {"shortest_edge": 32 * 32, "longest_edge": 128 * 128}
    rope = {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0}
    chat = CHAT.replace("IMAGE", "<|vision_start|><|image_pad|><|vision_end|>")
    if generation == "3":
        config = tf.Qwen3VLConfig(
            text_config=text(tokenizer, head_dim=12, rope_parameters=rope | {"mrope_interleaved": True}),
            vision_config=vision | {"patch_size": 8, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 1]},
            **ids,
        )
        images = tf.Qwen2VLImageProcessor(patch_size=8, merge_size=2, size=limits)
        videos = tf.Qwen3VLVideoProcessor(patch_size=8, merge_size=2)
        processor = tf.Qwen3VLProcessor(images, tokenizer, videos, chat_template=chat)
        return save(folder, tf.Qwen3VLForConditionalGeneration, config, processor)
    config = tf.Qwen2_5_VLConfig(
        text_config=text(tokenizer, rope_parameters=rope),
        vision_config=vision | {"patch_size": 8, "window_size": 32, "fullatt_block_indexes": [2]},
        **ids,
    )
    images = tf.Qwen2VLImageProcessor(patch_size=8, merge_size=2, size=limits)
    processor = tf.Qwen2_5_VLProcessor(images, tokenizer, tf.Qwen2VLVideoProcessor(patch_size=8), chat_template=chat)
    return save(folder, tf.Qwen2_5_VLForConditionalGeneration, config, processor)


def qwen3_vl(folder: Path) -> Path:
    """Qwen3-VL: features for two deeper layers."""
    return _qwen(folder, "3")


def qwen2_5_vl(folder: Path) -> Path:
    """Qwen2.5-VL: windows of 2 x 2 merge groups."""
    return _qwen(folder, "2.5")


def _idefics(folder: Path, smol: bool) -> Path:
    rows = [f"<row_{r}_col_{c}>" for r in range(1, 5) for c in range(1, 5)]
    tokenizer = words("<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<video>", *rows)
    kind = tf.SmolVLMConfig if smol else tf.Idefics3Config
    config = kind(
        vision_config=VISION,
        text_config=tf.LlamaConfig(**text(tokenizer)),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
    )
    sizes = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}
    chat = CHAT.replace("IMAGE", "<image>")
    if smol:
        videos = tf.SmolVLMVideoProcessor(**sizes)
        processor = tf.SmolVLMProcessor(
            tf.SmolVLMImageProcessor(**sizes), tokenizer, videos, image_seq_len=4, chat_template=chat
        )
        return save(folder, tf.SmolVLMForConditionalGeneration, config, processor)
    processor = tf.Idefics3Processor(tf.Idefics3ImageProcessor(**sizes), tokenizer, image_seq_len=4, chat_template=chat)
    return save(folder, tf.Idefics3ForConditionalGeneration, config, processor)


def idefics3(folder: Path) -> Path:
    """Idefics3: up to four tiles and the whole."""
    return _idefics(folder, smol=False)


def smolvlm(folder: Path) -> Path:
    """SmolVLM: as Idefics3."""
    return _idefics(folder, smol=True)


def gemma3(folder: Path) -> Path:
    """Gemma 3, with a window that is shorter than the prompts."""
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = words(named=named, bos=True)
    config = tf.Gemma3Config(
        text_config=text(
            tokenizer,
            head_dim=12,
            sliding_window=24,
            layer_types=["sliding_attention", "full_attention"],
            query_pre_attn_scalar=12,
        ),
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_index=tokenizer.image_token_id,
        boi_token_index=tokenizer.boi_token_id,
        eoi_token_index=tokenizer.eoi_token_id,
    )
    images = tf.Gemma3ImageProcessor(size={"height": 32, "width": 32})
    chat = "<s>" + CHAT.replace("IMAGE", "<start_of_image>")
    processor = tf.Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=chat)
    return save(folder, tf.Gemma3ForConditionalGeneration, config, processor)


def _paligemma(folder: Path, second: bool) -> Path:
    tokenizer = words(bos=True)
    images = tf.SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = tf.PaliGemmaProcessor(images, tokenizer)
    model_type = "gemma2" if second else "gemma"
    more = {"sliding_window": 24, "query_pre_attn_scalar": 12} if second else {}
    config = tf.PaliGemmaConfig(
        text_config=text(tokenizer, head_dim=12, model_type=model_type, **more),
        vision_config=tf.SiglipVisionConfig(**VISION, vision_use_head=False, projection_dim=48),
        image_token_index=processor.image_token_id,
        projection_dim=48,
    )
    return save(folder, tf.PaliGemmaForConditionalGeneration, config, processor)


def paligemma(folder: Path) -> Path:
    """PaliGemma."""
    return _paligemma(folder, second=False)


def paligemma2(folder: Path) -> Path:
    """PaliGemma 2: windows, and logits that are capped."""
    return _paligemma(folder, second=True)


def internvl(folder: Path) -> Path:
    """InternVL: up to three tiles and the whole."""
    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = words(named=named)
    vision = VISION | {"image_size": [32, 32], "patch_size": [8, 8]}
    config = tf.InternVLConfig(
        vision_config=tf.InternVLVisionConfig(**vision),
        text_config=tf.Qwen2Config(**text(tokenizer)),
        image_token_id=tokenizer.context_image_token_id,
        image_seq_length=4,
    )
    images = tf.GotOcr2ImageProcessor(size={"height": 32, "width": 32}, max_patches=3)
    processor = tf.InternVLProcessor(
        images,
        tokenizer,
        tf.InternVLVideoProcessor(),
        image_seq_length=4,
        chat_template=CHAT.replace("IMAGE", "<IMG_CONTEXT>\n"),
    )
    return save(folder, tf.InternVLForConditionalGeneration, config, processor)


def _instructblip(folder: Path, language: Any, tokenizer: Any) -> Path:
    config = tf.InstructBlipConfig(
        vision_config=VISION,
        qformer_config={
            "vocab_size": 400,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "encoder_hidden_size": 32,
        },
        text_config=language,
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    images = tf.BlipImageProcessor(size={"height": 32, "width": 32})
    processor = tf.InstructBlipProcessor(images, tokenizer, tiny_tokenizer(), num_query_tokens=4)
    return save(folder, tf.InstructBlipForConditionalGeneration, config, processor)


def instructblip(folder: Path) -> Path:
    """InstructBLIP on Vicuna."""
    tokenizer = words(bos=True)
    return _instructblip(folder, tf.LlamaConfig(**text(tokenizer)).to_dict(), tokenizer)


def instructblip_opt(folder: Path) -> Path:
    """InstructBLIP on OPT, whose positions are learned."""
    tokenizer = words(bos=True)
    values = text(tokenizer, ffn_dim=96, word_embed_proj_dim=48)
    return _instructblip(folder, tf.OPTConfig(**values).to_dict(), tokenizer)


def blip2(folder: Path) -> Path:
    """BLIP-2, which no family serves: its processor puts the placeholders itself."""
    tokenizer = words(bos=True)
    former = {"vocab_size": 400, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = tf.Blip2Config(
        vision_config=VISION,
        qformer_config={**former, "num_attention_heads": 4, "encoder_hidden_size": 32},
        text_config=tf.OPTConfig(**text(tokenizer, ffn_dim=96, word_embed_proj_dim=48)).to_dict(),
        num_query_tokens=4,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = tf.Blip2Processor(
        tf.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer, num_query_tokens=4
    )
    return save(folder, tf.Blip2ForConditionalGeneration, config, processor)


def mllama(folder: Path) -> Path:
    """Llama 3.2 Vision, which no family serves: the language model looks at the image from some of its layers."""
    tokenizer = words("<|image|>", named={"image_token": "<|image|>"}, bos=True)
    shapes = [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]]
    rope = {"rope_type": "default", "rope_theta": 1e4}
    language = text(tokenizer, num_hidden_layers=4, cross_attention_layers=[1, 3], rope_parameters=rope)
    config = tf.MllamaConfig(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 4,
            "image_size": 32,
            "patch_size": 8,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0, 1],
            "vision_output_dim": 96,
            "supported_aspect_ratios": shapes,
        },
        text_config=language | {"vocab_size": len(tokenizer)},
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    images = tf.MllamaImageProcessor(size={"height": 32, "width": 32}, max_image_tiles=4)
    processor = tf.MllamaProcessor(images, tokenizer, chat_template="<s>" + CHAT.replace("IMAGE", "<|image|>"))
    return save(folder, tf.MllamaForConditionalGeneration, config, processor)


def unknown(folder: Path) -> Path:
    """ViP-LLaVA, which no family serves."""
    tokenizer = words()
    config = tf.VipLlavaConfig(
        vision_config=tf.CLIPVisionConfig(**VISION),
        text_config=tf.LlamaConfig(**text(tokenizer)),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layers=[-1, -2],
    )
    images = tf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = tf.LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=CHAT.replace("IMAGE", "<image>\n"),
    )
    return save(folder, tf.VipLlavaForConditionalGeneration, config, processor)


FAMILIES: dict[str, Callable[[Path], Path]] = {
    f.__name__: f
    for f in (
        llava,
        llava_next,
        llava_onevision,
        instructblip,
        instructblip_opt,
        qwen3_vl,
        qwen2_5_vl,
        smolvlm,
        idefics3,
        gemma3,
        internvl,
        paligemma,
        paligemma2,
        blip2,
        mllama,
        unknown,
    )
}
