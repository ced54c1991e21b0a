"""What a VLM said: the answer, and the thought of a reasoning VLM before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from .generation import Generation

if TYPE_CHECKING:
    from .base import LocalVLM

_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"))
"""What reasoning VLMs write around their thoughts (DeepSeek's and Qwen's, Llama's, Mistral's, Kimi's)."""
_ANSWER = re.compile(r"\s*<answer>((?:(?!</answer>).)*)(?:</answer>)?\s*", re.DOTALL)


@dataclass(frozen=True)
class Reply:
    """What a VLM said to one question.

    Attributes:
        text: The answer.
        thought: What a reasoning VLM wrote before it, without its marks.
        finish_reason: ``"stop"`` where the answer ended by itself, ``"length"`` where ``max_new_tokens`` or the end
            of the model's context cut it off.
    """

    text: str
    thought: str = ""
    finish_reason: str = "stop"


def decode_reply(vlm: LocalVLM, tokens: Tensor, prompt: str, generation: Generation) -> Reply:
    """The answer, and the thought before it, in generated tokens.

    Args:
        vlm: The VLM.
        tokens: The tokens that it generated (N).
        prompt: The prompt that they follow.
        generation: How it generated them.
    """
    ids = tokens.tolist()
    ended = any(token in vlm.end_token_ids for token in ids)
    while ids and ids[-1] == vlm.pad_token_id:
        ids.pop()
    finish_reason = "stop" if ended or len(ids) < generation.max_new_tokens else "length"
    while ids and ids[-1] in vlm.end_token_ids:  # behind the marks of an answer they would hide these
        ids.pop()
    generated = vlm.tokenizer.decode(ids, skip_special_tokens=False)
    thought, answer = split_thought(generated, prompt)
    if answer == generated.strip():  # no thought, no marks: only the special tokens are no text
        answer = vlm.tokenizer.decode(ids, skip_special_tokens=True)
    return Reply(vlm.special.sub("", answer).strip(), vlm.special.sub("", thought).strip(), finish_reason)


def split_thought(generated: str, prompt: str) -> tuple[str, str]:
    """The thought and the answer in a generated text.

    Args:
        generated: The text, special tokens included.
        prompt: The prompt, which may have begun the thought already.

    Returns:
        The thought (empty where there is none) and the answer (empty where the thought does not end).

    >>> split_thought("<think>It is round.</think> A ball.", "")
    ('It is round.', 'A ball.')
    >>> split_thought("It is round.</think><answer>A ball.</answer>", "What is it? <think>")
    ('It is round.', 'A ball.')
    >>> split_thought("<think>It is", "")
    ('It is', '')
    >>> split_thought("A ball.", "")
    ('', 'A ball.')
    """
    thought, answer = "", generated
    for opens, closes in _THOUGHTS:
        if closes in generated:
            before, _, answer = generated.rpartition(closes)
            thought = before.partition(opens)[2] if opens in before else before
            break
        if opens in generated or prompt.rstrip().endswith(opens):
            thought, answer = generated.rpartition(opens)[2], ""
            break
    wrapped = _ANSWER.fullmatch(answer)
    return thought.strip(), (wrapped[1] if wrapped else answer).strip()


def close_thought(prompt: str) -> str:
    """End the thought that a prompt begins, if it begins one, so that the answer comes at once."""
    for opens, closes in _THOUGHTS:
        if prompt.rstrip().endswith(opens):
            return f"{prompt.rstrip()}\n\n{closes}\n\n"
    return prompt
