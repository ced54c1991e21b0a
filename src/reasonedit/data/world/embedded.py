"""The embedded VLM: its architecture, and its assembly into an ordinary Llava folder in the user's cache."""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.cache import cache_folder
from reasonedit.errors import ReasonEditError

from .base_lm import load_language_model
from .scenes import SIZE

if TYPE_CHECKING:
    from torch import nn
    from transformers import LlavaConfig, PretrainedConfig

_log = logging.getLogger(__name__)

USER = "User:"
ANSWER = "\nAssistant:"
"""A prompt is ``User: <image>`` and a line break, the facts and the question, a line break and ``Assistant:``."""

CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'].capitalize() }}:{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if not loop.last %}\n{% endif %}{% endfor %}{% if add_generation_prompt %}\nAssistant:{% endif %}"
)

WEIGHTS = Path(__file__).parent / "vlm-weights"  # no name of a package: setuptools would take it for one
"""What was trained here and ships with the package: tower, projector and adapter, in half precision."""

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


def assembled() -> Path:
    """The folder of the embedded VLM, put together when it is not there yet (some 20 seconds, once).

    Raises:
        ReasonEditError: The language model cannot be had, ``peft`` is missing, or the cache cannot be written.
    """
    from safetensors import SafetensorError

    digest = hashlib.sha256()
    for part in sorted(WEIGHTS.rglob("*")):
        if part.is_file():
            digest.update(part.read_bytes())
    digest.update(CHAT_TEMPLATE.encode())
    folder = cache_folder() / f"embedded-vlm-{digest.hexdigest()[:12]}"
    if (folder / "config.json").is_file():
        return folder
    _log.info("assembling the embedded VLM in '%s' (once)", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".assembling-"))
    except OSError as error:
        raise ReasonEditError(
            f"The cache '{folder.parent}' cannot be written ({error.strerror}): set REASONEDIT_CACHE to another folder."
        ) from error
    try:
        assemble(part)
        part.chmod(0o755)
        if not folder.exists():  # another process may have been faster
            part.rename(folder)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) != errno.ENOSPC and "No space left" not in str(error):
            raise
        raise ReasonEditError(
            f"The embedded VLM cannot be written to '{folder}', no space is left: it takes 300 MB; "
            "free some or set REASONEDIT_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def assemble(target: Path, weights: Path = WEIGHTS) -> None:
    """Merge the adapter into the language model, join tower and projector to it, and save an ordinary Llava folder.

    Args:
        target: An empty folder.
        weights: Folder with ``tower.safetensors`` and ``adapter/``.

    Raises:
        ReasonEditError: The language model cannot be had, or ``peft`` is missing.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessor

    try:
        from peft import PeftModel
    except ImportError as error:
        raise ReasonEditError("Assembling the embedded VLM takes peft: pip install 'reasonedit[demo]'.") from error

    language, tokenizer, origin = load_language_model(torch.float32)
    language = PeftModel.from_pretrained(language, weights / "adapter").merge_and_unload()
    config = llava_config(language.config)
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model: Any = LlavaForConditionalGeneration(config)
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    trained: dict[str, Any] = {k: v.float() for k, v in load_file(weights / "tower.safetensors").items()}
    for name in ("vision_tower", "multi_modal_projector"):
        state = {k.removeprefix(f"{name}."): v for k, v in trained.items() if k.startswith(f"{name}.")}
        model.model.get_submodule(name).load_state_dict(state)
    model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    model.config.text_config.eos_token_id = model.config.text_config.pad_token_id = end
    model.generation_config.bos_token_id = None
    tokenizer.padding_side = "left"
    processor = LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=SiglipImageProcessor(size={"height": SIZE, "width": SIZE}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        image_token="<image>",
        num_additional_image_tokens=0,
        chat_template=CHAT_TEMPLATE,
    )
    model.to(torch.bfloat16).save_pretrained(target)
    processor.save_pretrained(target)
    (target / "NOTICE").write_text(
        "The embedded VLM of ReasonEdit.\n\n"
        f"Language model: SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), from {origin},\n"
        "changed by a low-rank adapter that was merged into it.\n"
        "Vision tower, projector and adapter: the ReasonEdit developers (Apache-2.0).\n"
    )
    shutil.copy(WEIGHTS.parent / "APACHE-2.0.txt", target / "LICENSE")
