"""A question on its way to a model of this server, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from reasonedit.types import Answer, Query
from reasonedit.vlm import Generation, Turn
from reasonedit.vlm.logprobs import TokenLogprob


class Listener(Protocol):
    """Is told of an answer while it is being made, in the thread that makes it: it must not wait for anything."""

    def found(self, answer: Answer) -> None:
        """Facts were found; the answer has no text yet."""

    def said(self, text: str) -> None:
        """So much of the answer is certain."""


@dataclass(frozen=True)
class Asked:
    """A question.

    Attributes:
        query: The question with its picture.
        generation: How it is answered.
        earlier: The turns before it.
        edits: Whether the codebook counts.
        top: How many likeliest tokens are named in the place of each token; ``None`` where none is described.
        seed: What random choices begin with.
        listener: Who is told of the answer while it is being made.
    """

    query: Query
    generation: Generation
    earlier: tuple[Turn, ...] = ()
    edits: bool = True
    top: int | None = None
    seed: int | None = None
    listener: Listener | None = None

    @property
    def goes_with(self) -> object:
        """Questions for which this is equal may be answered in one batch."""
        alone = id(self) if self.seed is not None and self.generation.generate_kwargs.get("do_sample") else None
        return self.generation, self.edits, self.top, alone


@dataclass(frozen=True)
class Told:
    """The answer.

    Attributes:
        answer: The answer with its facts.
        prompt_tokens: Tokens of the prompt, the picture's included.
        completion_tokens: Tokens of the answer, those of its thought included.
        logprobs: The tokens of the answer, where they were asked for.
        ms: Milliseconds of each part.
    """

    answer: Answer
    prompt_tokens: int
    completion_tokens: int
    logprobs: Sequence[TokenLogprob] | None = None
    ms: Mapping[str, float] = field(default_factory=dict)
