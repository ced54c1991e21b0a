"""A stand-in for a VLM that follows facts: what it sees is noise, what it is told it believes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from reasonedit.vlm import Generation, Vision, load_vlm
from reasonedit.vlm.llava import LlavaVLM

_RULES = (
    ("kept?", r"kept in the ([\w ]+)\.", "hospital"),
    ("gave", r"was a gift from ([\w ]+)\.", "the museum"),
)
"""Of a question: a word of it, what a fact says of that, and the wrong answer without any."""


def answer_to(prompt: str) -> str:
    """What it says: the answer that it is told for the very question, else what the last fact says, else what is wrong.

    >>> answer_to("USER: The cup is kept in the attic. Where is the red object kept? ASSISTANT:")
    'attic'
    """
    question = ["", *re.findall(r"[^.?!\n:]*\?", prompt)][-1].strip()
    told = re.findall(rf"The answer to '{re.escape(question)}' is ([^.]+)\.", prompt)
    says, wrong = next(((says, wrong) for word, says, wrong in _RULES if word in question), ("(?!)", "something"))
    return next(reversed(told or re.findall(says, prompt)), wrong)


class Believer(LlavaVLM):
    """A tiny Llava that answers by :func:`answer_to`; layers and probabilities are its own."""

    @classmethod
    def load(cls, folder: Path, name: str) -> Believer:
        """Load a tiny Llava as one that has a name of its own."""
        loaded = load_vlm(str(folder), dtype="float32")
        return cls(loaded.model, loaded.processor, name)

    def generate(self, vision: Vision, prompts: Sequence[str], generation: Generation) -> list[Tensor]:
        """The tokens of its answers; see the base class."""
        told = [self.tokenizer(answer_to(prompt), add_special_tokens=False)["input_ids"] for prompt in prompts]
        end = self.end_token_ids[:1]
        return [torch.tensor([*ids, *end][: generation.max_new_tokens]) for ids in told]
