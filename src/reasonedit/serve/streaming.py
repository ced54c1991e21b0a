"""An answer in the chunks in which a model says it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace

from reasonedit.types import Answer

from .asked import Asked, Told


class Stream:
    """What a model says, handed from the thread in which it does so to the request that waits for it.

    Args:
        stops: Texts at which the answer ends.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._loop = asyncio.get_running_loop()
        self._news: asyncio.Queue[Answer | str | None] = asyncio.Queue()
        self._sent = ""
        self.answer: asyncio.Task[Told] | None = None

    # ---- in the model's thread

    def found(self, answer: Answer) -> None:
        """See :class:`~reasonedit.serve.asked.Listener`."""
        self._put(answer)

    def said(self, text: str) -> None:
        """See :class:`~reasonedit.serve.asked.Listener`."""
        self._put(text)

    def _put(self, news: Answer | str | None) -> None:
        self._loop.call_soon_threadsafe(self._news.put_nowait, news)

    # ---- in the request

    async def begin(self, asked: Asked, ask: Callable[[Asked], Awaitable[Told]]) -> Answer:
        """Begin to have a question answered; the facts that were found for it.

        Raises:
            Exception: What keeps it from being answered.
        """

        async def run() -> Told:
            try:
                return await ask(replace(asked, listener=self))
            finally:
                self._news.put_nowait(None)

        self.answer = asyncio.create_task(run())
        news = await self._news.get()
        while not isinstance(news, Answer):
            if news is None:  # it failed, or nobody was told anything
                self._news.put_nowait(None)
                return (await self.answer).answer
            news = await self._news.get()
        return news

    async def pieces(self) -> AsyncIterator[str]:
        """The answer piece by piece, as far as it is certain; once these are over, :attr:`answer` is there."""
        while (news := await self._news.get()) is not None:
            if isinstance(news, str) and (piece := self._new_part(news)):
                self._sent += piece
                yield piece

    def rest(self, text: str) -> str:
        """What of the whole answer was not sent yet."""
        return text[len(self._sent) :] if text.startswith(self._sent) else ""

    def _new_part(self, text: str) -> str:
        """What of a text may be sent: nothing that may be the beginning of a stop."""
        if self._stops:
            ends = [place for stop in self._stops if (place := text.find(stop)) >= 0]
            text = text[: min([*ends, max(0, len(text) + 1 - max(map(len, self._stops)))])]
        return self.rest(text)
