"""The embedded VLM, assembled into an ordinary Llava folder in the user's cache."""

from __future__ import annotations

import hashlib
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from reasonedit.errors import UnavailableError, is_disk_full, needed
from reasonedit.util.cache import cache_folder

from .architecture import CHAT_TEMPLATE, llava_config, llava_processor
from .base_lm import load_language_model

_log = logging.getLogger(__name__)

WEIGHTS = Path(__file__).parent / "vlm-weights"  # no name of a package: setuptools would take it for one
"""What was trained here and ships with the package: tower, projector and adapter, in half precision."""


def assemble_embedded_vlm() -> Path:
    """The folder of the embedded VLM, assembled when it is not there yet (some 20 seconds, once).

    Raises:
        UnavailableError: The language model cannot be had, ``peft`` is missing, or the cache cannot be written.
    """
    from safetensors import SafetensorError

    digest = hashlib.sha256()
    for file in sorted(WEIGHTS.rglob("*")):
        if file.is_file():
            digest.update(file.read_bytes())
    digest.update(CHAT_TEMPLATE.encode())
    folder = cache_folder() / f"embedded-vlm-{digest.hexdigest()[:12]}"
    if (folder / "config.json").is_file():
        return folder
    _log.info("assembling the embedded VLM in '%s' (once)", folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".assembling-"))
    except OSError as error:
        raise UnavailableError(
            f"The cache '{folder.parent}' cannot be written ({error.strerror}): set REASONEDIT_CACHE to another folder."
        ) from error
    try:
        _assemble_into(part)
        part.chmod(0o755)
        if not folder.exists():  # another process may have been faster
            part.rename(folder)
    except (OSError, SafetensorError) as error:
        if not is_disk_full(error) and "No space left" not in str(error):
            raise
        raise UnavailableError(
            f"The embedded VLM cannot be written to '{folder}', no space is left: it takes 300 MB; "
            "free some or set REASONEDIT_CACHE to another folder."
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _assemble_into(target: Path) -> None:
    """Save the embedded VLM as an ordinary Llava folder.

    Args:
        target: An empty folder.

    Raises:
        UnavailableError: The language model cannot be had, or ``peft`` is missing.
    """
    from transformers import LlavaForConditionalGeneration

    language, tokenizer, origin = load_adapted_language_model(WEIGHTS / "adapter")
    processor = llava_processor(tokenizer)
    config = llava_config(language.config)
    config.image_token_id = tokenizer.convert_tokens_to_ids("<image>")
    model = LlavaForConditionalGeneration(config)
    join_parts(model, language, tokenizer, WEIGHTS / "tower.safetensors")
    save_vlm(target, model, processor)
    (target / "NOTICE").write_text(
        "The embedded VLM of ReasonEdit.\n\n"
        f"Language model: SmolLM2-135M-Instruct by Hugging Face (Apache-2.0), from {origin},\n"
        "changed by a low-rank adapter that was merged into it.\n"
        "Vision tower, projector and adapter: the ReasonEdit developers (Apache-2.0).\n"
    )
    shutil.copy(WEIGHTS.parent / "APACHE-2.0.txt", target / "LICENSE")


def load_adapted_language_model(adapter: Path) -> tuple[Any, Any, str]:
    """The language model with an adapter merged into it, its tokenizer, and where it came from.

    Args:
        adapter: The folder of the adapter.

    Raises:
        UnavailableError: The language model cannot be had, or ``peft`` is missing.
    """
    import torch

    peft = needed("peft", "demo")
    language, tokenizer, origin = load_language_model(torch.float32)
    return peft.PeftModel.from_pretrained(language, adapter).merge_and_unload(), tokenizer, origin


def join_parts(model: Any, language: Any, tokenizer: Any, tower: Path) -> None:
    """Give an untrained VLM the weights of a language model and of a trained tower and projector.

    Args:
        model: The VLM, with a language model, ``vision_tower`` and ``multi_modal_projector``.
        language: The language model.
        tokenizer: The VLM's tokenizer, new tokens included.
        tower: The safetensors file of the tower and the projector.
    """
    import torch
    from safetensors.torch import load_file

    model.model.language_model.load_state_dict(language.model.state_dict())
    model.lm_head.load_state_dict(language.lm_head.state_dict())
    trained: dict[str, Any] = {k: v.float() for k, v in load_file(tower).items()}
    for name in ("vision_tower", "multi_modal_projector"):
        weights = {k.removeprefix(f"{name}."): v for k, v in trained.items() if k.startswith(f"{name}.")}
        model.model.get_submodule(name).load_state_dict(weights)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # the rows of new tokens are drawn: each assembly is the same, byte by byte
        model.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=64, mean_resizing=False)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    model.generation_config.eos_token_id = model.generation_config.pad_token_id = end
    model.config.text_config.eos_token_id = model.config.text_config.pad_token_id = end
    model.generation_config.bos_token_id = None
    tokenizer.padding_side = "left"


def save_vlm(target: Path, model: Any, processor: Any) -> None:
    """Save a VLM in half precision, with its processor."""
    import torch

    model.to(torch.bfloat16).save_pretrained(target)
    processor.save_pretrained(target)
