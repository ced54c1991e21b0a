"""How a VLM is told to answer, and what it said."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reasonedit.errors import ReasonEditError

CHOICE_RULES = ("acc", "acc_norm")
_NOT_TAKEN = {
    "num_return_sequences": "there is one answer per question",
    "return_dict_in_generate": "there is one answer per question",
    "output_scores": "answers are texts",
    "output_logits": "answers are texts",
    "output_attentions": "answers are texts",
    "output_hidden_states": "answers are texts",
    "max_length": "name max_new_tokens",
    "prompt_lookup_num_tokens": "it takes one question at a time",
    "guidance_scale": "it takes a second prompt",
    "max_time": "an answer would hang on how fast the machine is",
    "remove_invalid_values": "numbers that are not finite are an error",
    "eos_token_id": "the model's own end an answer",
    "pad_token_id": "the model's own is used",
}
_THOUGHTS = (("<think>", "</think>"), ("<thinking>", "</thinking>"), ("[THINK]", "[/THINK]"), ("◁think▷", "◁/think▷"))
"""What reasoning VLMs write around their thoughts (DeepSeek's and Qwen's, Llama's, Mistral's, Kimi's)."""
_ANSWER = re.compile(r"\s*<answer>((?:(?!</answer>).)*)(?:</answer>)?\s*", re.DOTALL)


@dataclass(frozen=True)
class Generation:
    """How answers are made.

    Attributes:
        max_new_tokens: Longest open answer, in tokens, thoughts included.
        choice_rule: Which choice is the answer: ``"acc"``, the most probable one (the sum of its tokens'
            log-likelihoods; arXiv 2602.02408), or ``"acc_norm"``, the one for which that sum divided by its length in
            characters is highest. The names are those of EleutherAI's evaluation harness.
        generate_kwargs: Other arguments of transformers' ``generate``, such as ``do_sample``, ``temperature`` or
            ``num_beams``. What is not said is greedy, whatever the checkpoint's own ``generation_config.json`` says.

    Raises:
        ReasonEditError: A value is out of range, or an argument is none that an answer can be made with.
    """

    max_new_tokens: int = 16
    choice_rule: str = "acc"
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tokens = self.max_new_tokens
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise ReasonEditError(f"max_new_tokens must be 1 or more, not {tokens!r}.")
        if self.choice_rule not in CHOICE_RULES:
            raise ReasonEditError(f"choice_rule must be {' or '.join(CHOICE_RULES)}, not {self.choice_rule!r}.")
        if self.generate_kwargs:
            _check(self.generate_kwargs)

    def but(
        self, max_new_tokens: int | None = None, choice_rule: str | None = None, **generate_kwargs: Any
    ) -> Generation:
        """The same with other values; those that are ``None`` stay.

        Raises:
            ReasonEditError: As for the class.
        """
        if max_new_tokens is None and choice_rule is None and not generate_kwargs:
            return self
        return replace(
            self,
            max_new_tokens=self.max_new_tokens if max_new_tokens is None else max_new_tokens,
            choice_rule=choice_rule or self.choice_rule,
            generate_kwargs={**self.generate_kwargs, **generate_kwargs},
        )

    def to_dict(self) -> dict[str, Any]:
        """The values, as JSON can hold them."""
        return {**asdict(self), "generate_kwargs": dict(self.generate_kwargs)}


def cut_off_message(cut: int, asked: int, generation: Generation) -> str:
    """What is said of answers that were cut off."""
    if asked == 1:
        return f"The answer was cut off after {generation.max_new_tokens} tokens: raise max_new_tokens to read on."
    return (
        f"{cut} of {asked} answers were cut off after {generation.max_new_tokens} tokens: raise max_new_tokens if they "
        "matter to their ends."
    )


def generation_of(module: object) -> Generation:
    """How a module answers, as far as it can be known: by its ``generation``, or by its ``max_new_tokens``."""
    told, longest = getattr(module, "generation", None), getattr(module, "max_new_tokens", None)
    if isinstance(told, Generation):
        return told
    return Generation(longest) if isinstance(longest, int) and longest > 0 else Generation()


def _check(given: Mapping[str, Any]) -> None:
    from transformers import GenerationConfig

    for name in given:
        if name in _NOT_TAKEN:
            raise ReasonEditError(f"The generation argument '{name}' cannot be used here: {_NOT_TAKEN[name]}.")
        if not hasattr(GenerationConfig(), name):  # type: ignore[no-untyped-call]
            raise ReasonEditError(f"There is no generation argument '{name}': see GenerationConfig of transformers.")
    try:
        GenerationConfig(**given).validate()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise ReasonEditError(f"The generation arguments cannot be used: {str(error).splitlines()[0]}") from error


@dataclass(frozen=True)
class Reply:
    """What a VLM said to one question.

    Attributes:
        text: The answer.
        thought: What a reasoning VLM wrote before it, without its marks.
        finish_reason: ``"stop"`` where the answer ended by itself, ``"length"`` where ``max_new_tokens`` cut it off.
    """

    text: str
    thought: str = ""
    finish_reason: str = "stop"


def split_thought(said: str, prompt: str) -> tuple[str, str]:
    """The thought and the answer in what a VLM generated.

    Args:
        said: The generated text, special tokens included.
        prompt: The prompt, which may have begun the thought already.

    Returns:
        The thought (empty where there is none) and the answer; empty where the thought does not end.

    >>> parted("<think>It is round.</think> A ball.", "")
    ('It is round.', 'A ball.')
    >>> parted("It is round.</think><answer>A ball.</answer>", "What is it? <think>")
    ('It is round.', 'A ball.')
    >>> parted("<think>It is", "")
    ('It is', '')
    >>> parted("A ball.", "")
    ('', 'A ball.')
    """
    thought, answer = "", said
    for opens, closes in _THOUGHTS:
        if closes in said:
            before, _, answer = said.rpartition(closes)
            thought = before.partition(opens)[2] if opens in before else before
            break
        if opens in said or prompt.rstrip().endswith(opens):
            thought, answer = said.rpartition(opens)[2], ""
            break
    wrapped = _ANSWER.fullmatch(answer)
    return thought.strip(), (wrapped[1] if wrapped else answer).strip()


def close_thought(prompt: str) -> str:
    """A prompt behind which the answer comes at once: a thought that it begins is ended."""
    for opens, closes in _THOUGHTS:
        if prompt.rstrip().endswith(opens):
            return f"{prompt.rstrip()}\n\n{closes}\n\n"
    return prompt
