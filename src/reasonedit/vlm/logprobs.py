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
            values = logits.log_softmax(-1).cpu()
            likeliest = values.topk(min(top, values.shape[1]), dim=1)
            found.append([_describe(vlm, values[i], i, ids[i], likeliest) for i in range(len(ids))])
    return found


@torch.inference_mode()
def _states(vlm: LocalVLM, vision: Vision, prompts: Sequence[str], followed: Sequence[Sequence[int]]) -> list[Tensor]:
    """The last hidden states from the end of each prompt on."""
    with vlm.guard:
        inputs, first = append_continuations(vlm, vision, prompts, followed)
        return [row[first:] for row in vlm.run(inputs).last_hidden_state]


def _describe(vlm: LocalVLM, values: Tensor, row: int, token: int, likeliest: tuple[Tensor, Tensor]) -> TokenLogprob:
    names = [vlm.tokenizer.decode([number]) for number in likeliest[1][row].tolist()]
    top = list(zip(names, likeliest[0][row].tolist(), strict=True))
    return TokenLogprob(vlm.tokenizer.decode([token]), float(values[token]), top)
