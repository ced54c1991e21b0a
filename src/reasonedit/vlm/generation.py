"""How a VLM answers: length, rule for choices, arguments of transformers' ``generate``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from reasonedit.errors import InputError

CHOICE_RULES = ("acc", "acc_norm")
_REFUSED = {
    "max_new_tokens": "it has a place of its own, beside these",
    "choice_rule": "it has a place of its own, beside these",
    "num_return_sequences": "there is one answer per question",
    "return_dict_in_generate": "there is one answer per question",
    "output_scores": "answers are texts",
    "output_logits": "answers are texts",
    "output_attentions": "answers are texts",
    "output_hidden_states": "answers are texts",
    "max_length": "name max_new_tokens",
    "min_length": "name min_new_tokens",
    "encoder_repetition_penalty": "an answer would depend on the questions beside it",
    "prompt_lookup_num_tokens": "it takes one question at a time",
    "guidance_scale": "it takes a second prompt",
    "max_time": "an answer would depend on the speed of the machine",
    "remove_invalid_values": "numbers that are not finite are an error",
    "eos_token_id": "the model's own end an answer",
    "pad_token_id": "the model's own is used",
}

SAMPLING = ("temperature", "top_k", "top_p", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff")
"""What counts only where answers are sampled."""
_COUNTS_WITH = {**dict.fromkeys(SAMPLING, "do_sample"), "early_stopping": "num_beams", "length_penalty": "num_beams"}


@dataclass(frozen=True)
class Generation:
    """How answers are made.

    Attributes:
        max_new_tokens: Longest open answer, in tokens, thoughts included.
        choice_rule: Which choice is the answer: ``"acc"``, the most probable one (the sum of its tokens'
            log-likelihoods; arXiv 2602.02408), or ``"acc_norm"``, the one for which that sum divided by its length in
            characters is highest. The names are those of EleutherAI's evaluation harness.
        generate_kwargs: Other arguments of transformers' ``generate``, such as ``do_sample``, ``temperature`` or
            ``num_beams``. Without them decoding is greedy, whatever the checkpoint's own
            ``generation_config.json`` says.

    Raises:
        InputError: A value is out of range, no answer can be generated with an argument, or it would have no effect.
    """

    max_new_tokens: int = 16
    choice_rule: str = "acc"
    generate_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        tokens = self.max_new_tokens
        if not isinstance(tokens, int) or isinstance(tokens, bool) or tokens < 1:
            raise InputError(f"max_new_tokens must be 1 or more, not {tokens!r}.")
        if self.choice_rule not in CHOICE_RULES:
            raise InputError(f"choice_rule must be {' or '.join(CHOICE_RULES)}, not {self.choice_rule!r}.")
        if self.generate_kwargs:
            _check(self.generate_kwargs)

    def but(
        self, max_new_tokens: int | None = None, choice_rule: str | None = None, /, **generate_kwargs: Any
    ) -> Generation:
        """The same with other values. A value of ``None`` stays as it is.

        Raises:
            InputError: As for the class.
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
        """The values in JSON's types."""
        return {**asdict(self), "generate_kwargs": dict(self.generate_kwargs)}


def cut_off_message(cut: int, asked: int, generation: Generation) -> str:
    """A sentence about answers that were cut off.

    Args:
        cut: Number of answers that were cut off.
        asked: Number of questions.
        generation: How they were answered.
    """
    by = f"by max_new_tokens={generation.max_new_tokens} or by the end of the model's context"
    if asked == 1:
        return f"The answer was cut off, {by}: raise max_new_tokens to read on as far as the context reaches."
    return f"{cut} of {asked} answers were cut off, {by}: raise max_new_tokens if their ends matter."


def generation_of(module: object) -> Generation:
    """How a module answers, as far as it says: by its ``generation``, or by its ``max_new_tokens``."""
    generation, max_new_tokens = getattr(module, "generation", None), getattr(module, "max_new_tokens", None)
    if isinstance(generation, Generation):
        return generation
    return Generation(max_new_tokens) if isinstance(max_new_tokens, int) and max_new_tokens > 0 else Generation()


def _check(generate_kwargs: Mapping[str, Any]) -> None:
    from transformers import GenerationConfig

    for name in generate_kwargs:
        if name in _REFUSED:
            raise InputError(f"The generation argument '{name}' cannot be used here: {_REFUSED[name]}.")
        if not hasattr(GenerationConfig(), name):  # type: ignore[no-untyped-call]
            raise InputError(f"There is no generation argument '{name}': see GenerationConfig of transformers.")
        needed = _COUNTS_WITH.get(name)
        if needed is not None and generate_kwargs[name] and needed not in generate_kwargs:
            raise InputError(
                f"The generation argument '{name}' counts only together with '{needed}': give both, or neither."
            )
    try:
        GenerationConfig(**generate_kwargs).validate()  # type: ignore[no-untyped-call]
    except (ValueError, TypeError) as error:
        raise InputError(f"The generation arguments cannot be used: {str(error).splitlines()[0]}") from error
