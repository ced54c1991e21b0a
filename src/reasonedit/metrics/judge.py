"""A language model as a judge: whether an answer says the same as a right one, however it is worded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from reasonedit.errors import InputError
from reasonedit.vlm.endpoint.connection import Connection, UnreadableReplyError
from reasonedit.vlm.endpoint.names import PREFIX, EndpointSettings
from reasonedit.vlm.endpoint.scores import said_yes
from reasonedit.vlm.reply import split_thought

from .apart import keep_apart

JUDGE_PROMPT = (
    "Question: {question}\nRight answer: {right}\nAnswer to judge: {answer}\n"
    "Taken as answers to the question, do the two say the same, whatever their wording? Say only yes or no."
)
"""What a judge is asked; several right answers are joined by ``or``."""

_LONGEST_VERDICT = 256  # a model that thinks does so before its word


@dataclass(frozen=True)
class Judged:
    """An answer that is to be judged.

    Attributes:
        question: The question, without facts.
        right: The right answers.
        answer: What was answered.
    """

    question: str
    right: tuple[str, ...]
    answer: str


class Judge:
    """A language model behind an endpoint that speaks OpenAI's protocol (``OPENAI_BASE_URL``, ``OPENAI_API_KEY``).

    Args:
        named: ``openai:MODEL``.
        prompt: What it is asked, with ``{question}``, ``{right}`` and ``{answer}``.

    Raises:
        InputError: It is named in another way, the prompt lacks a part, or there is no key.
        UnavailableError: The package openai is not installed.
    """

    def __init__(self, named: str, prompt: str = JUDGE_PROMPT) -> None:
        if not named.startswith(PREFIX):
            raise InputError(f"The judge must be named {PREFIX}MODEL, not '{named}'.")
        missing = [part for part in ("{question}", "{right}", "{answer}") if part not in prompt]
        if missing:
            raise InputError(f"The judge's prompt lacks {missing[0]}: it would not be told that.")
        self.prompt = prompt
        self.connection = Connection(EndpointSettings(named.removeprefix(PREFIX)))

    def to_dict(self) -> dict[str, Any]:
        """Who judges, and how it is asked: for the results."""
        model = self.connection.settings.model
        return {"model": model, "endpoint": self.connection.address, "prompt": self.prompt, "temperature": 0.0}

    def verdicts(self, answers: Sequence[Judged]) -> list[bool | None]:
        """Whether each answer is right; ``None`` where the judge says neither yes nor no.

        Raises:
            UnavailableError: The endpoint cannot be used, or could not be reached however often it was tried.
        """
        return self.connection.map(self._judge, answers)

    def _judge(self, one: Judged) -> bool | None:
        parts = {"question": one.question, "right": " or ".join(one.right), "answer": one.answer}
        asked = re.sub(r"\{(question|right|answer)\}", lambda found: parts[found[1]], self.prompt)
        try:
            messages = [{"role": "user", "content": asked}]
            reply = self.connection.chat(messages, temperature=0.0, max_tokens=_LONGEST_VERDICT)
        except UnreadableReplyError:
            return None
        said = said_yes(split_thought(str(reply.choices[0].message.content or ""), "")[1])
        return None if said is None else said == 1


class JudgedAccuracy(Metric):
    """The share of answers to one group of probes that a :class:`Judge` calls right.

    Verdicts that could not be read are left out, and counted. Without a verdict the result is NaN.

    >>> metric = JudgedAccuracy("rel")
    >>> metric.update([True, None, False, True], ["rel", "rel", "rel", "loc"])
    >>> metric.compute(), int(metric.unread)
    (tensor(0.5000), 1)

    Args:
        group: Name of a :class:`~reasonedit.groups.ProbeGroup`.
        **kwargs: Those of ``torchmetrics.Metric``.

    Attributes:
        right: How many answers are right.
        total: How many were judged.
        unread: How many verdicts could not be read.

    Raises:
        ValueError: On ``update``, when the lengths differ.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    right: Tensor
    total: Tensor
    unread: Tensor

    def __init__(self, group: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.group = group
        for name in ("right", "total", "unread"):
            self.add_state(name, torch.tensor(0, dtype=torch.long), dist_reduce_fx="sum")
        keep_apart(self, group)

    def update(self, verdicts: Sequence[bool | None], groups: Sequence[str]) -> None:
        """Count verdicts.

        Args:
            verdicts: The verdict on each answer, as :meth:`Judge.verdicts` gives them.
            groups: The group each sample belongs to.
        """
        if len(verdicts) != len(groups):
            raise ValueError(f"{len(verdicts)} verdicts and {len(groups)} groups: not as many of each")
        own = [verdict for verdict, group in zip(verdicts, groups, strict=True) if group == self.group]
        self.right += sum(verdict is True for verdict in own)
        self.total += sum(verdict is not None for verdict in own)
        self.unread += sum(verdict is None for verdict in own)

    def compute(self) -> Tensor:
        """The share of right answers among those judged, a scalar in 0..1; NaN where there is none."""
        return self.right / self.total
