"""Call transformers' ``generate`` without a checkpoint's own way to generate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reasonedit.errors import InputError, ReasonEditError
from reasonedit.util.finite import check_finite

from .checkpoint import first_line
from .devices import is_out_of_memory
from .generation import Generation

if TYPE_CHECKING:
    from .base import LocalVLM

_SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""Arguments that say how an answer is drawn, and nothing of one that is not."""
_TOKENS_NEVER_SAID = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")


def non_text_tokens(vlm: LocalVLM) -> dict[str, Any]:
    """What stays of a checkpoint's generation config: tokens that are no text, such as placeholders of images.

    Returns:
        Values of a generation config, by their names.

    Raises:
        InputError: A value names no tokens.
    """
    config = getattr(vlm.model, "generation_config", None)
    values = {name: value for name in _TOKENS_NEVER_SAID if (value := getattr(config, name, None)) not in (None, [])}
    for name, value in values.items():
        rows = value if name == "bad_words_ids" and isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(row, (list, tuple)) and row and all(type(t) is int for t in row) for row in rows):
            raise InputError(
                f"The generation config of '{vlm.name}' has {name}={value!r}, not numbers of tokens: correct its "
                "generation_config.json."
            )
    if "bad_words_ids" in values:  # a model cannot say a token that it does not have
        words = [row for row in values["bad_words_ids"] if all(0 <= token < vlm.vocabulary_size for token in row)]
        values["bad_words_ids"] = words or None
    return values


def tokens_never_said(vlm: LocalVLM, generation: Generation) -> list[int] | None:
    """The tokens that are never said, where nothing else is asked of generating: then it is to take the likeliest.

    Args:
        vlm: The VLM.
        generation: How to generate.

    Returns:
        Their ids; ``None`` where transformers' ``generate`` is needed.

    Raises:
        InputError: A value of the checkpoint's generation config names no tokens.
    """
    values = non_text_tokens(vlm)
    words = [list(row) for row in values.get("bad_words_ids") or []]
    if generation.generate_kwargs or "begin_suppress_tokens" in values or any(len(word) > 1 for word in words):
        return None
    # As generate has it, an answer may always end.
    said = [word[0] for word in words if word[0] not in vlm.end_token_ids]
    return [token for token in (*said, *values.get("suppress_tokens", ())) if 0 <= token < vlm.vocabulary_size]


def run_generate(vlm: LocalVLM, model: Any, inputs: dict[str, Any], generation: Generation) -> Tensor:
    """Run ``generate`` of a model.

    Of the checkpoint's generation config only the tokens that are no text stay: a repetition penalty, as some ship one,
    would count against the very words of the facts and the question.

    Args:
        vlm: The VLM.
        model: Its model, or the part of it that generates.
        inputs: Inputs of the model.
        generation: How to generate.

    Returns:
        Token ids (rows, tokens); of most models those of the prompts come first.

    Raises:
        InputError: The arguments cannot be used, or the model's numbers are not finite.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    idle = next((name for name in _SAMPLING if generation.generate_kwargs.get(name) is not None), None)
    if idle is not None and "do_sample" not in generation.generate_kwargs:
        raise InputError(f"The generation argument '{idle}' has no effect where nothing is drawn: set do_sample, too.")
    values = {"do_sample": False, "num_beams": 1, **non_text_tokens(vlm), **generation.generate_kwargs}
    ours = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=generation.max_new_tokens,
        pad_token_id=vlm.pad_token_id,
        eos_token_id=vlm.end_token_ids,
        **values,
    )
    tokenizer = {"tokenizer": vlm.tokenizer} if "stop_strings" in values else {}
    # What a config does not set, generate takes from the config of the model or of a model in it: they are replaced.
    theirs = [(m, m.generation_config) for m in model.modules() if getattr(m, "generation_config", None)]
    try:
        for module, _ in theirs:
            module.generation_config = ours
        processors = LogitsProcessorList([_check_logits])
        tokens = model.generate(**inputs, generation_config=ours, logits_processor=processors, **tokenizer)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, ImportError, RuntimeError) as error:
        if isinstance(error, ReasonEditError) or is_out_of_memory(error) or not generation.generate_kwargs:
            raise
        arguments = ", ".join(f"{name}={value!r}" for name, value in generation.generate_kwargs.items())
        raise InputError(
            f"The generation arguments {arguments} cannot be used with '{vlm.name}': {first_line(error)}"
        ) from error
    finally:
        for module, config in theirs:
            module.generation_config = config
    return torch.as_tensor(tokens)


def _check_logits(_ids: Tensor, scores: Tensor) -> Tensor:
    # A token that must not be said is at minus infinity; nothing else is infinite.
    check_finite(torch.where(scores == -torch.inf, 0.0, scores), "The logits of an answer")
    return scores
