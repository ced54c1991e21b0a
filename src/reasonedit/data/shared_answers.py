"""What the unedited model answers, asked by all ranks of a run together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import lightning as L

from reasonedit.errors import InputError
from reasonedit.ranks import exchange
from reasonedit.types import Query
from reasonedit.vlm import Reply

from .answers import Answers


class SharedAnswers:
    """The unedited model's answers, asked for by all ranks together.

    Args:
        answers: Asks it.
        trainer: The trainer whose ranks share the work, where there are several.
    """

    def __init__(self, answers: Answers, trainer: L.Trainer | None = None) -> None:
        self.answers, self.trainer = answers, trainer
        self.ranks = trainer.world_size if trainer is not None else 1
        self.rank = trainer.global_rank if trainer is not None else 0
        self.generation = answers.generation
        self.close = answers.close

    def check_same_edits(self, names: Sequence[str]) -> None:
        """Make sure that the source gave every rank the same edits.

        Raises:
            InputError: It did not.
        """
        if self.trainer is not None and len(set(exchange(self.trainer, json.dumps(names).encode()))) > 1:
            raise InputError(
                "The data source gives every rank edits of other names: name them by what they are (Edit(id=…)), so "
                "that all ranks speak of the same ones."
            )

    def ask(self, batches: Sequence[Sequence[Query]]) -> list[tuple[list[Reply], list[float | None]]]:
        """The answers to each of as many batches as there are ranks, or fewer, with their times."""
        replies, ms = self.answers.replies(batches[self.rank]) if self.rank < len(batches) else ([], [])
        if self.trainer is None or self.ranks == 1:
            return [(replies, ms)]
        own = json.dumps([[asdict(reply) for reply in replies], ms]).encode()
        of_ranks = [json.loads(message) for message in exchange(self.trainer, own)]
        return [([Reply(**values) for values in replies], ms) for replies, ms in of_ranks[: len(batches)]]
