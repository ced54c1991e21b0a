"""A question on its way to a model of this server, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reasonedit.types import Answer, Query
from reasonedit.vlm import Generation, Turn
from reasonedit.vlm.logprobs import TokenLogprob


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
    """

    query: Query
    generation: Generation
    earlier: tuple[Turn, ...] = ()
    edits: bool = True
    top: int | None = None
    seed: int | None = None

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
