"""A tiny Llava with random weights, saved like any other checkpoint, and a sentence encoder that needs no model."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    SiglipImageProcessor,
    SiglipVisionConfig,
)

IMAGE_SIZE, PATCH = 32, 8
PATCHES = (IMAGE_SIZE // PATCH) ** 2


def tokenizer(*, bos: bool = False, named: dict[str, str] | None = None) -> PreTrainedTokenizerFast:
    """One token per byte; with ``bos`` it puts a token at the beginning, as that of LLaVA-1.5 does.

    ``named`` are special tokens that are attributes of it, as some processors need them.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    if bos:
        number = len(alphabet)
        made.add_special_tokens(["<s>"])
        made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", number)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>" if bos else None,
        padding_side="left",
        extra_special_tokens=named or {},
    )
    fast.add_tokens(["<image>"], special_tokens=True)
    return fast


def save_tiny_llava(folder: Path, *, tower: str = "siglip", bos: bool = False) -> Path:
    """Save a Llava of some 100,000 parameters; ``tower`` is siglip (no CLS token) or clip (with one)."""
    torch.manual_seed(0)
    words = tokenizer(bos=bos)
    size = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": IMAGE_SIZE,
        "patch_size": PATCH,
    }
    vision = SiglipVisionConfig(**size, vision_use_head=False) if tower == "siglip" else CLIPVisionConfig(**size)
    config = LlavaConfig(
        vision_config=vision,
        text_config=LlamaConfig(
            vocab_size=len(words) + 6,
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=2048,
            initializer_range=0.2,
            pad_token_id=words.pad_token_id,
            eos_token_id=words.eos_token_id,
            bos_token_id=None,
        ),
        image_token_index=words.convert_tokens_to_ids("<image>"),
        image_seq_length=PATCHES,
        vision_feature_layer=-1 if tower == "siglip" else -2,
        vision_feature_select_strategy="full" if tower == "siglip" else "default",
    )
    model = LlavaForConditionalGeneration(config)
    sides = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    images = (
        SiglipImageProcessor(size=sides)
        if tower == "siglip"
        else CLIPImageProcessor(size={"shortest_edge": IMAGE_SIZE}, crop_size=sides)
    )
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=words,
        patch_size=PATCH,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=0 if tower == "siglip" else 1,
        image_token="<image>",
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(seed: int, size: int = IMAGE_SIZE) -> Image.Image:
    """A random picture, far from all others."""
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.NEAREST
    )


def save_pictures(folder, first, count=16):
    """A folder of pictures; those of the same names that were there give way."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        picture(first + number).save(folder / f"{number}.png")


class HashEncoder:
    """A sentence encoder without a model: texts that share words are near."""

    name = "hash"

    def encode(self, texts: list[str]) -> torch.Tensor:
        rows = torch.zeros(len(texts), 64)
        for i, text in enumerate(texts):
            for word in text.lower().split():
                rows[i, int(hashlib.md5(word.encode()).hexdigest(), 16) % 64] += 1
        return torch.nn.functional.normalize(rows, dim=1)


def design(*, k: int = 5, percentile: float = 10.0, keys: str = "image", merge: bool = False, **writing: object):
    """The paper's design at w = 1 with the encoder that needs no model; whole images alone unless said otherwise."""
    from reasonedit import EmbeddingConfig
    from reasonedit.design import Design, WritingConfig
    from reasonedit.retrieval import RetrievalConfig

    return Design(
        EmbeddingConfig(text_weight=1.0, encoder="hash"),
        writing=WritingConfig(keys=keys, merge=merge, **writing),
        retrieval=RetrievalConfig(k=k, percentile=percentile),
    )
