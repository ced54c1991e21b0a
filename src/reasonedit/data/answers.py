"""What a model answered whose weights nobody edited, cached on disk: it is asked once, and every editor uses it."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image

import reasonedit.vlm
from reasonedit.errors import InputError, UnavailableError
from reasonedit.types import Query
from reasonedit.util.cache import cache_folder
from reasonedit.util.dependencies import code_version
from reasonedit.vlm import VLM, Generation, Reply, Vision


@dataclass(frozen=True)
class Asked:
    """A question as a VLM is asked it: with what an editor put before it, of whatever length.

    Attributes:
        image: Its picture, RGB.
        question: The question.
        choices: Its choices, if it has any.
        text_only: Whether the VLM is not shown the picture.
    """

    image: Image.Image
    question: str
    choices: Sequence[str] | None = None
    text_only: bool = False


class Answers:
    """A model's answers, those it gave in earlier runs included.

    They are in the folder ``answers`` of the cache: one file for each model (all that its answers depend on, its
    processor included), way to answer, device with its threads, and version of the code that asks, a family of one's
    own included (of a class that is in no file answers are known in this process alone). A query is found by its
    image's pixels and the whole prompt.

    Args:
        vlm: The unedited model.
        generation: How it answers, or how many tokens at most.

    Attributes:
        layers: Layers of the vision part that are kept of its passes.
        seen: The vision pass of the last batch; ``None`` where some of its answers were known.
        ms_saved: Milliseconds that the answers of the last batch which were known took when they were given, without
            the vision pass.

    Raises:
        UnavailableError: The cache cannot be written.
    """

    def __init__(self, vlm: VLM, generation: Generation | int | None = None) -> None:
        self.vlm = vlm
        self.layers: Sequence[str] = ()
        self.seen: Vision | None = None
        self.ms_saved = 0.0
        self.generation = Generation(generation) if isinstance(generation, int) else generation or Generation()
        on_gpu = vlm.device.type == "cuda"
        device = torch.cuda.get_device_name(vlm.device) if on_gpu else f"{vlm.device}, {torch.get_num_threads()}"
        how = json.dumps(self.generation.to_dict(), sort_keys=True, default=str)
        self._folder = path = cache_folder() / "answers"
        try:
            parts = [vlm.identity, device, how, code_version(reasonedit.vlm, type(vlm))]
            name = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:24]
            database = path / f"{name}.sqlite"
        except InputError:  # as in a notebook: nothing says whether the class is still what it was
            database = Path(":memory:")
        with self._named_errors():
            path.mkdir(parents=True, exist_ok=True)
            # Any thread may ask, one at a time.
            self._database = sqlite3.connect(database, timeout=60, check_same_thread=False)
            self._database.execute("create table if not exists replies (query text primary key, reply text, ms real)")

    def ask(self, queries: Sequence[Query]) -> tuple[list[str], list[float | None]]:
        """The texts of :meth:`replies`, with their times."""
        replies, ms = self.replies(queries)
        return [reply.text for reply in replies], ms

    def replies(
        self, queries: Sequence[Query | Asked], vision: Vision | None = None
    ) -> tuple[list[Reply], list[float | None]]:
        """Answer queries; those that were not asked before are asked in one batch.

        Args:
            queries: The queries.
            vision: A vision pass of their images that was made already; what was read of it is used up.

        Returns:
            The answers, and for each the milliseconds that it took: its share of its batch, or ``None`` where it was
            known.

        Raises:
            UnavailableError: The cache cannot be read or written any more.
        """
        keys = [self._key(q) for q in queries]
        found = {key: row for key in keys if (row := self._find(key)) is not None}
        known = {key: reply for key, (reply, _) in found.items()}
        new = [i for i, k in enumerate(keys) if k not in known]
        self.seen, self.ms_saved = None, sum(found[k][1] for k in keys if k in found)
        ms = 0.0
        if new:
            asked = [queries[i] for i in new]
            shown = [i for i in new if not queries[i].text_only]
            started = time.perf_counter()
            part = self._see(asked, self.layers) if vision is None else _part_of(vision, shown, self.vlm)
            seen = time.perf_counter()
            replies = self._ask(asked, part)
            ended = time.perf_counter()
            ms = 1000 * (ended - started) / len(asked)
            known |= {keys[i]: reply for i, reply in zip(new, replies, strict=True)}
            rows = [(keys[i], json.dumps(asdict(known[keys[i]])), 1000 * (ended - seen) / len(asked)) for i in new]
            self.seen = part if len(shown) == len(queries) else None
            with self._named_errors(), self._database:
                self._database.executemany("insert or replace into replies values (?, ?, ?)", rows)
        return [known[k] for k in keys], [ms if i in new else None for i in range(len(keys))]

    def time(self, queries: Sequence[Query]) -> float:
        """Ask queries in one batch whether their answers are known or not: the milliseconds that each took."""
        started = time.perf_counter()
        self._ask(queries, self._see(queries, ()))
        return 1000 * (time.perf_counter() - started) / len(queries)

    def _see(self, queries: Sequence[Query | Asked], layers: Sequence[str]) -> Vision | None:
        """The vision pass of the pictures that are shown, if there are any."""
        shown = [query.image for query in queries if not query.text_only]
        return self.vlm.see(shown, layers) if shown else None

    def _ask(self, queries: Sequence[Query | Asked], vision: Vision | None) -> list[Reply]:
        """The replies; of what has a picture by the pass of these pictures."""
        texts = [i for i, query in enumerate(queries) if query.text_only]
        shown = [i for i, query in enumerate(queries) if not query.text_only]
        told = self.vlm.reply_to_texts([queries[i].question for i in texts], self.generation) if texts else []
        replies = dict(zip(texts, told, strict=True))
        if vision is not None and shown:
            rows = [queries[i].question for i in shown], [queries[i].choices for i in shown]
            replies |= zip(shown, self.vlm.reply(vision, *rows, self.generation), strict=True)
        return [replies[i] for i in range(len(queries))]

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, sqlite3.Error) as error:
            raise UnavailableError(
                f"The cache '{self._folder}' cannot be used ({error}): set REASONEDIT_CACHE to a folder that can be "
                "written."
            ) from error

    def _find(self, key: str) -> tuple[Reply, float] | None:
        """A reply that is known, and its milliseconds."""
        with self._named_errors():
            row = self._database.execute("select reply, ms from replies where query = ?", (key,)).fetchone()
        return None if row is None else (Reply(**json.loads(row[0])), float(row[1]))

    def _key(self, query: Query | Asked) -> str:
        prompt = self.vlm.prompt(query.question, query.choices)
        digest = hashlib.sha256(json.dumps([prompt, query.choices, query.image.size]).encode())
        digest.update(b"text only" if query.text_only else query.image.tobytes())
        return digest.hexdigest()


def _part_of(vision: Vision, rows: Sequence[int], vlm: VLM) -> Vision:
    """The pass of some images of a batch, with what the VLM read of them."""
    if len(rows) == len(vision):
        return vision
    part, prefix = vision.select(rows), vision.take_prefix(vlm)
    if prefix is not None:
        prefix.narrow(rows)
        part.prefix = prefix
    return part
