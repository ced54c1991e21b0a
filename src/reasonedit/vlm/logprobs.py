"""How probable each token of an answer was, and what else could have stood there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from reasonedit.util.finite import check_finite

from .base import LocalVLM
from .prefix import append_continuations
from .vision import Vision


@dataclass(frozen=True)
class TokenLogprob:
    """A token that was said.

    Attributes:
        text: The token.
        logprob: Its log-probability, in nats.
        top: The likeliest tokens in its place with theirs, the likeliest first.
    """

    text: str
    logprob: float
    top: list[tuple[str, float]]


def token_logprobs(
    vlm: LocalVLM, vision: Vision, prompts: Sequence[str], said: Sequence[Sequence[int]], top: int
) -> list[list[TokenLogprob]]:
    """The log-probabilities of tokens that follow prompts, in one pass.

    They are those of the model itself, before any temperature.

    Args:
        vlm: The VLM.
        vision: One image per prompt.
        prompts: The prompts, from :meth:`~reasonedit.vlm.texts.TextSide.prompt`.
        said: For each prompt the ids of the tokens after it.
        top: How many of the likeliest tokens are named.

    Returns:
        For each prompt a value per token.

    Raises:
        InputError: The model's numbers are not finite.
    """
    found = []
    for start in range(0, len(prompts), vlm.texts_at_once):
        rows = range(start, min(start + vlm.texts_at_once, len(prompts)))
        parts = [said[row] for row in rows]
        states = _states(vlm, vision.select(rows), [prompts[row] for row in rows], [ids[:-1] for ids in parts])
        for of_prompt, ids in zip(states, parts, strict=True):
            logits = check_finite(vlm.head(of_prompt[: len(ids)]).float(), "The logits of an answer")
            found.append(_describe(vlm, logits.log_softmax(-1).cpu(), ids, top))
    return found


def first_tokens(
    vlm: LocalVLM, vision: Vision, prompts: Sequence[str], top: int, never: Sequence[int] = ()
) -> list[tuple[int, TokenLogprob]]:
    """The likeliest token after each prompt, with its log-probability: the one pass that reads the prompts says both.

    Args:
        vlm: The VLM.
        vision: One image per prompt.
        prompts: The prompts.
        top: How many of the likeliest tokens are named.
        never: Ids of tokens that are never said.

    Raises:
        InputError: The model's numbers are not finite.
    """
    found = []
    for logits in vlm.read(vision).next_logits([[prompt] for prompt in prompts]):
        values = logits.log_softmax(-1)
        allowed = values.clone()
        allowed[:, list(never)] = -torch.inf
        token = int(allowed.argmax())
        found.append((token, _describe(vlm, values, [token], top)[0]))
    return found


@torch.inference_mode()
def _states(vlm: LocalVLM, vision: Vision, prompts: Sequence[str], followed: Sequence[Sequence[int]]) -> list[Tensor]:
    """The last hidden states from the end of each prompt on."""
    with vlm.guard:
        inputs, first = append_continuations(vlm, vision, prompts, followed)
        return [row[first:] for row in vlm.run(inputs).last_hidden_state]


def _describe(vlm: LocalVLM, values: Tensor, ids: Sequence[int], top: int) -> list[TokenLogprob]:
    """What is known of tokens, by the log-probabilities of the whole vocabulary in their places: (tokens, V)."""
    likeliest = values.topk(min(top, values.shape[1]), dim=1)
    found = []
    with vlm.guard:
        for row, token in enumerate(ids):
            names = [vlm.tokenizer.decode([number]) for number in likeliest.indices[row].tolist()]
            others = list(zip(names, likeliest.values[row].tolist(), strict=True))
            found.append(TokenLogprob(vlm.tokenizer.decode([token]), float(values[row, token]), others))
    return found
