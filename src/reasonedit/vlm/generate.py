"""How transformers' ``generate`` is called, and what becomes of the tokens it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from reasonedit.errors import ReasonEditError
from reasonedit.finite import finite

from .checkpoint import first_line
from .device_memory import is_out_of_memory
from .generation import Generation, Reply, split_thought

if TYPE_CHECKING:
    from .base import VLM

_NO_TEXT = ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens")


def non_text_tokens(vlm: VLM) -> dict[str, Any]:
    """What of a checkpoint's generation config stays: tokens that are no text, such as placeholders of images.

    Raises:
        ReasonEditError: It names no tokens.
    """
    own = getattr(vlm.model, "generation_config", None)
    kept = {name: value for name in _NO_TEXT if (value := getattr(own, name, None)) not in (None, [])}
    for name, value in kept.items():
        rows = value if name == "bad_words_ids" and isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(row, (list, tuple)) and row and all(type(t) is int for t in row) for row in rows):
            raise ReasonEditError(
                f"The generation config of '{vlm.name}' has {name}={value!r}, which are no numbers of tokens: mend its "
                "generation_config.json."
            )
    if "bad_words_ids" in kept:  # what the model has no token for it cannot say
        kept["bad_words_ids"] = [
            r for r in kept["bad_words_ids"] if all(0 <= t < vlm.vocabulary_size for t in r)
        ] or None
    return kept


def run_generate(vlm: VLM, model: Any, inputs: dict[str, Any], generation: Generation) -> Tensor:
    """What transformers' ``generate`` makes of inputs.

    Nothing of the checkpoint's own way to generate is left but the tokens that are no text: a repetition penalty, as
    some ship one, would count against the very words of the facts and the question.

    Args:
        vlm: The VLM.
        model: Its model, or the one in it that generates.
        inputs: What the model is given.
        generation: How it generates.

    Raises:
        ReasonEditError: The arguments cannot be used, or the model's numbers are not finite.
    """
    from transformers import GenerationConfig, LogitsProcessorList

    told = {"do_sample": False, "num_beams": 1, **non_text_tokens(vlm), **generation.generate_kwargs}
    own = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=generation.max_new_tokens, pad_token_id=vlm.pad_token_id, eos_token_id=vlm.end_token_ids, **told
    )
    words = {"tokenizer": vlm.tokenizer} if "stop_strings" in told else {}
    # What a config does not set, generate takes from the model's, or from that of a model in it: they say no more.
    theirs = [(m, m.generation_config) for m in model.modules() if getattr(m, "generation_config", None)]
    try:
        for module, _ in theirs:
            module.generation_config = own
        processors = LogitsProcessorList([_finite_logits])
        made = model.generate(**inputs, generation_config=own, logits_processor=processors, **words)
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, ImportError, RuntimeError) as error:
        if isinstance(error, ReasonEditError) or is_out_of_memory(error) or not generation.generate_kwargs:
            raise
        given = ", ".join(f"{name}={value!r}" for name, value in generation.generate_kwargs.items())
        raise ReasonEditError(
            f"The generation arguments {given} cannot be used with '{vlm.name}': {first_line(error)}"
        ) from error
    finally:
        for module, config in theirs:
            module.generation_config = config
    return torch.as_tensor(made)


def decode_reply(vlm: VLM, tokens: Tensor, prompt: str, generation: Generation) -> Reply:
    """The answer in the tokens that were made, and the thought before it."""
    made = tokens.tolist()
    ended = any(token in vlm.end_token_ids for token in made)
    while made and made[-1] == vlm.pad_token_id:
        made.pop()
    reason = "stop" if ended or len(made) < generation.max_new_tokens else "length"
    while made and made[-1] in vlm.end_token_ids:  # behind the marks of an answer they would hide these
        made.pop()
    said = vlm.tokenizer.decode(made, skip_special_tokens=False)
    thought, answer = split_thought(said, prompt)
    if answer == said.strip():  # no thought, no marks: only what is special among the tokens is no text
        answer = vlm.tokenizer.decode(made, skip_special_tokens=True)
    return Reply(vlm.special.sub("", answer).strip(), vlm.special.sub("", thought).strip(), reason)


def _finite_logits(_ids: Tensor, scores: Tensor) -> Tensor:
    # A token that must not be said is at minus infinity; nothing else is infinite.
    finite(torch.where(scores == -torch.inf, 0.0, scores), "The logits of an answer")
    return scores
