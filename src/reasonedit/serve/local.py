"""Answers of a model in this process, in batches, with or without the codebook."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from reasonedit.call_batcher import CallBatcher
from reasonedit.editor import ReasonEditor
from reasonedit.explain import make_answer
from reasonedit.retrieval import Retrieval
from reasonedit.vlm import Generation, Reply, Vision
from reasonedit.vlm.base import LocalVLM
from reasonedit.vlm.generate import tokens_never_said
from reasonedit.vlm.logprobs import TokenLogprob, first_tokens, token_logprobs
from reasonedit.vlm.reply import decode_reply

from .asked import Asked, Told

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor


class LocalModel:
    """One copy of a model, with its view of the codebook.

    What several threads ask while it is busy is answered in one batch, as far as it is to be answered in one way. A
    question sees the codebook at the moment in which its facts are retrieved, as for an editor.

    Args:
        editor: The editor.
    """

    def __init__(self, editor: ReasonEditor) -> None:
        assert isinstance(editor.vlm, LocalVLM)
        self.editor, self.vlm = editor, editor.vlm
        self._batcher: CallBatcher[Asked, Told] = CallBatcher(self._answer)

    def ask(self, asked: Asked) -> Told:
        """Answer a question.

        Raises:
            ReasonEditError: The question or its picture cannot be used, or the codebook cannot be read.
        """
        return self._batcher.ask(asked)

    def _answer(self, all_asked: Sequence[Asked]) -> list[Told]:
        told: dict[int, Told] = {}
        while len(told) < len(all_asked):
            first = next(i for i in range(len(all_asked)) if i not in told)
            rows = [i for i, asked in enumerate(all_asked) if asked.goes_with == all_asked[first].goes_with]
            told.update(zip(rows, self._answer_alike([all_asked[i] for i in rows]), strict=True))
        return [told[i] for i in range(len(all_asked))]

    def _answer_alike(self, asked: Sequence[Asked]) -> list[Told]:
        """Answer questions that are answered in one way."""
        pipeline, how, began = self.editor.pipeline, asked[0].generation, time.perf_counter()
        questions, choices = [a.query.question for a in asked], [a.query.choices for a in asked]
        images, earlier = [a.query.image for a in asked], [a.earlier for a in asked]
        if asked[0].edits:
            pipeline.memory.refresh()
            ahead = pipeline.embedder.begin_texts(questions) if pipeline.memory.edits else None
            vision = pipeline.see(images)
            pipeline.watch(images, vision)
            found = pipeline.retrieve(vision, questions, ahead)
        else:
            vision = self.vlm.see(images)
            found = [Retrieval([], math.inf, 0.0) for _ in asked]
        prompts, retrieved = pipeline.prompts(vision, questions, found, choices, how, earlier)
        between = time.perf_counter()
        logprobs: Sequence[list[TokenLogprob] | None] = [None] * len(asked)
        with _seeded(asked[0].seed, self.vlm):
            if asked[0].top is None:
                self._listen(vision, asked, prompts, retrieved)
                replies = self.vlm.reply(vision, prompts, choices, how, earlier)
            else:
                replies, logprobs = self._reply_with_logprobs(vision, prompts, asked, asked[0].top)
        ms = {"retrieve": 1e3 * (between - began), "answer": 1e3 * (time.perf_counter() - between)}
        return [
            Told(make_answer(reply, fetched, prompt), *self._count(vision, i, prompt, reply, asked[i]), of_tokens, ms)
            for i, (reply, fetched, prompt, of_tokens) in enumerate(
                zip(replies, retrieved, prompts, logprobs, strict=True)
            )
        ]

    def _listen(
        self, vision: Vision, asked: Sequence[Asked], texts: Sequence[str], retrieved: Sequence[Retrieval]
    ) -> None:
        """Have those who listen told of their answers as these are made, where this model says them token by token."""
        if not any(a.listener for a in asked):
            return
        for one, fetched, text in zip(asked, retrieved, texts, strict=True):
            if one.listener is not None:
                one.listener.found(make_answer(Reply(""), fetched, text))
        prompts = [self.vlm.prompt(text, a.query.choices, a.earlier) for text, a in zip(texts, asked, strict=True)]

        def tell(row: int, said: Sequence[int]) -> None:
            listener = asked[row].listener
            if listener is not None:
                reply = decode_reply(self.vlm, torch.tensor(said), prompts[row], asked[row].generation)
                listener.said(certain_part(reply.text))

        prefix = self.vlm.read(vision.take_prefix(self.vlm) or vision)
        prefix.tell = tell
        vision.prefix = prefix  # for the answers

    def _reply_with_logprobs(
        self, vision: Vision, texts: Sequence[str], asked: Sequence[Asked], top: int
    ) -> tuple[list[Reply], list[list[TokenLogprob]]]:
        """Open answers with the log-probabilities of their tokens: one more pass than answers alone."""
        vlm, how = self.vlm, asked[0].generation
        prompts = [vlm.prompt(text, None, a.earlier) for text, a in zip(texts, asked, strict=True)]
        for seen, prompt in zip(vision.images, prompts, strict=True):
            vlm.check_room(seen, prompt)
        never = tokens_never_said(vlm, how)
        if how.max_new_tokens == 1 and never is not None:
            firsts = first_tokens(vlm, vision, prompts, top, never)
            tokens = [torch.tensor([token]) for token, _ in firsts]
            replies = [decode_reply(vlm, *parts, how) for parts in zip(tokens, prompts, strict=True)]
            return replies, [[described] for _, described in firsts]
        room = min(
            vlm.context_length - seen.size - vlm.count_tokens(prompt)
            for seen, prompt in zip(vision.images, prompts, strict=True)
        )
        limited = how.but(max(1, min(how.max_new_tokens, room)))
        generated = vlm.generate(vision, prompts, limited)
        said = [_until_end(vlm, tokens) for tokens in generated]
        replies = [decode_reply(vlm, *parts, limited) for parts in zip(generated, prompts, strict=True)]
        return replies, token_logprobs(vlm, vision, prompts, said, top)

    def _count(self, vision: Vision, row: int, text: str, reply: Reply, asked: Asked) -> tuple[int, int]:
        """Tokens of a prompt, and of what was said."""
        prompt = self.vlm.prompt(text, asked.query.choices, asked.earlier)
        said = f"{reply.thought} {reply.text}".strip()
        with self.vlm.guard:
            answer = len(self.vlm.tokenizer(said, add_special_tokens=False)["input_ids"])
        return self.vlm.count_tokens(prompt) - 1 + vision.images[row].size, answer


class LocalModels:
    """Copies of a model on several devices: whoever has least to do answers.

    All keep their codebook in one folder. What is written by one is read by each other before its next question.

    Args:
        editors: An editor for each copy, all opened on the same folder.
    """

    def __init__(self, editors: Sequence[ReasonEditor]) -> None:
        self.models = [LocalModel(editor) for editor in editors]
        self._busy = [0] * len(self.models)
        self._lock = threading.Lock()

    @property
    def generation(self) -> Generation:
        """How answers are made where a question does not say."""
        return self.models[0].editor.generation

    def ask(self, asked: Asked) -> Told:
        """Answer a question; errors as for :meth:`LocalModel.ask`."""
        with self.least_busy() as model:
            return model.ask(asked)

    @contextmanager
    def least_busy(self) -> Iterator[LocalModel]:
        """The copy that has least to do, which counts as busy meanwhile."""
        with self._lock:
            number = self._busy.index(min(self._busy))
            self._busy[number] += 1
        try:
            yield self.models[number]
        finally:
            with self._lock:
                self._busy[number] -= 1


_LONGEST_MARK = 16


def certain_part(text: str) -> str:
    """What of an answer stays as it is however it goes on: no half of a character, and no half of a mark around it.

    >>> certain_part("a ball</ans")
    'a ball'
    >>> certain_part("<answ")
    ''
    >>> certain_part("a < b, or so it seems here")
    'a < b, or so it seems here'
    """
    text = text.rstrip("\ufffd")
    places = [place for mark in "<[◁" if (place := text.rfind(mark, max(0, len(text) - _LONGEST_MARK))) >= 0]
    return text[: min(places, default=len(text))].rstrip()


def _until_end(vlm: LocalVLM, tokens: Tensor) -> list[int]:
    """The tokens of an answer, without what fills the row of a batch after its end."""
    ids: list[int] = tokens.tolist()
    for place, token in enumerate(ids):
        if token in vlm.end_token_ids:
            return ids[: place + 1]
    return ids


@contextmanager
def _seeded(seed: int | None, vlm: LocalVLM) -> Iterator[None]:
    """Have random choices begin with a seed, for this thread's call alone: nobody else runs the model meanwhile."""
    if seed is None:
        yield
        return
    devices = [vlm.device] if vlm.device.type == "cuda" else []
    with vlm.guard, torch.random.fork_rng(devices):
        torch.manual_seed(seed % 2**63)
        yield
