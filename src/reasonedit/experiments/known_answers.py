"""Asks the VLM nothing twice: most prompts of a sweep's rows are alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import reasonedit.callbacks as cb
from reasonedit.batches import Choices, pictures, texts_alone, vision_of
from reasonedit.callbacks.baselines import IKE, RAG, Unedited
from reasonedit.data.answers import Answers, Asked
from reasonedit.module import VLMModule
from reasonedit.vlm import Reply

_LEAVE_THE_VLM = (cb.Codebook, IKE, RAG, Unedited)
"""Editors whose edits are in the prompt alone: the VLM, its weights and its passes stay what they were."""


class KnownAnswers(VLMModule):
    """Answers as another module, but takes from the cache what its VLM was asked before, in whatever cell.

    Args:
        module: The other module.
        answers: The answers of its VLM.

    Attributes:
        seconds_saved: Seconds that the queries took when they were asked, of those that were not asked again. What
            :class:`~reasonedit.callbacks.QueryTimer` does not count does not count here.
    """

    def __init__(self, module: VLMModule, answers: Answers) -> None:
        super().__init__(module.vlm)
        self.generation = module.generation
        self.answers = answers
        self.seconds_saved = 0.0

    def reply(self, batch: dict[str, Any], asked: list[str], choices: Choices) -> list[Reply]:
        """As :meth:`VLMModule.reply`."""
        alone, images = texts_alone(batch, self, len(asked)), pictures(batch, "images", self, len(asked))
        # A pass that nobody made is made here, and so timed with what is not remembered.
        vision = None if all(alone) else vision_of(batch, self.vlm, self, len(asked))
        queries = [Asked(*parts) for parts in zip(images, asked, choices, alone, strict=True)]
        replies, _ = self.answers.replies(queries, vision)
        if cb.QueryTimer.times(batch):
            self.seconds_saved += self.answers.ms_saved / 1000
        return replies


@contextmanager
def asking_once(module: VLMModule, editor: cb.Editor) -> Iterator[VLMModule]:
    """The module for a cell: one that asks nothing twice, where that is the same.

    It is not where the editor changes the VLM or what passes through it, or is of the user's own and so may do that,
    where answers are drawn by chance, or where a class of the user's own answers in a way of its own.

    Args:
        module: The module of the lab.
        editor: The editor of the cell.
    """
    is_known = type(module) is VLMModule and type(editor) in _LEAVE_THE_VLM  # a subclass may do more
    is_sampled = bool(module.generation.generate_kwargs.get("do_sample"))
    if is_sampled or not is_known:
        yield module
        return
    with closing(Answers(module.vlm, module.generation)) as answers:
        yield KnownAnswers(module, answers)
