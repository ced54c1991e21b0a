"""How much of a right answer a VLM would say, token by token, when it is told the tokens before (teacher forcing)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from reasonedit.errors import NotServedError
from reasonedit.util.finite import check_finite

from .base import LocalVLM
from .interface import VLM
from .logprobs import token_logprobs
from .reply import close_thought
from .vision import Vision


def check_forced(vlm: VLM) -> LocalVLM:
    """The VLM, if it can be asked for tokens under teacher forcing.

    Raises:
        NotServedError: It is behind an endpoint.
    """
    if not isinstance(vlm, LocalVLM):
        raise NotServedError(
            f"The share of tokens takes what the VLM would say after each token of the right answer: '{vlm.name}' "
            "keeps that behind its endpoint, so leave the share out."
        )
    return vlm


def forced_shares(vlm: LocalVLM, vision: Vision, prompts: Sequence[str], targets: Sequence[str]) -> list[float]:
    """For each prompt the share of a text's tokens that are the likeliest ones, each after those before it.

    This is the accuracy of MEND and MMEdit (arXiv 2110.11309, 2310.08475), without their padding.

    Args:
        vlm: The VLM.
        vision: One image per prompt.
        prompts: The prompts, from :meth:`~reasonedit.vlm.texts.TextSide.prompt`.
        targets: A text for each.

    Returns:
        Shares in 0..1.

    Raises:
        InputError: A target holds no text, or the model's numbers are not finite.
    """
    asked = [close_thought(prompt) for prompt in prompts]
    said = [vlm.continuation(prompt, target) for prompt, target in zip(asked, targets, strict=True)]
    found = token_logprobs(vlm, vision, asked, said, top=1)
    return [sum(t.logprob >= t.top[0][1] for t in tokens) / len(tokens) for tokens in found]


@torch.inference_mode()
def forced_share_of_text(vlm: LocalVLM, question: str, target: str) -> float:
    """As :func:`forced_shares`, for one question without a picture.

    Args:
        vlm: The VLM.
        question: The question.
        target: The text.
    """
    with vlm.guard:
        prompt = close_thought(vlm.format_text(vlm.clean(question)))
        ids = vlm.continuation(prompt, target)
        inputs = vlm.text_inputs(prompt, ids[:-1])
        logits = check_finite(vlm.text_model(**inputs).logits[0, -len(ids) :], "The logits of an answer")
        return float((logits.argmax(-1).cpu() == torch.tensor(ids)).float().mean())
