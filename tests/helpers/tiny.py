"""A tiny Llava with random weights, saved like any other checkpoint, and a sentence encoder that needs no model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
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
WORDS = ("yes", "no", "anchor", "kettle", "lamp", "trumpet", "violin")
"""What the tiny Llava that speaks says first: one of these to any question, with a probability of its own for each."""
_LIKELIER = 20.0
_LINES = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
)
"""A prompt at whose end no space stands before the answer: each of the words is its first token."""


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


def save_tiny_llava(folder: Path, *, tower: str = "siglip", bos: bool = False, says: Sequence[str] = ()) -> Path:
    """Save a Llava of some 100,000 parameters.

    Args:
        folder: Where.
        tower: siglip (no CLS token) or clip (with one).
        bos: Whether its tokenizer puts a token at the beginning.
        says: Words that are tokens of their own and far likelier than all others: then a few candidates say what it
            thinks of yes and no, as those of a trained model do.
    """
    torch.manual_seed(0)
    words = tokenizer(bos=bos)
    words.add_tokens([AddedToken(word, single_word=True, normalized=False) for word in says])
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
    if says:
        _let_say(model, words, says)
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
        **({"chat_template": _LINES} if says else {}),
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@torch.no_grad()
def _let_say(model: LlavaForConditionalGeneration, words: PreTrainedTokenizerFast, says: Sequence[str]) -> None:
    """Make some words the likeliest tokens at the end of a prompt, each with a probability that depends on it."""
    asked = ("What is it?", "Who?", "Number 0 is round.", "Does the image show it is round?", "What is number 1?")
    ids = [words([f"{'<image>' * PATCHES}{text}\n"] * 30, return_tensors="pt")["input_ids"] for text in asked]
    pixels = torch.rand(30, 3, 4, 4).sub(0.5).mul(2).repeat_interleave(8, 2).repeat_interleave(8, 3)
    read = [model.model(input_ids=some, pixel_values=pixels).last_hidden_state[:, -1] for some in ids]
    direction = torch.linalg.lstsq(torch.cat(read), torch.ones(30 * len(asked), 1)).solution[:, 0]
    model.lm_head.weight[words.convert_tokens_to_ids(list(says))] += _LIKELIER * direction


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
