"""What eight threads get that share one editor: gathered into batches, against one lock around each question."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from bench_tools import print_ratio

from reasonedit import Answer, Query, ReasonEditor
from reasonedit.call_batcher import CallBatcher
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.vlm import Generation

THREADS = 8


def prepare(model: str, edits: int, questions: int) -> tuple[ReasonEditor, list[Query]]:
    """An editor with edits of a development seed, and questions of the same seed that are no edits."""
    editor = ReasonEditor.from_pretrained(model)
    samples = list(islice(EmbeddedWorld("demo", seed=100).candidates(), edits + questions))
    for sample in samples[:edits]:
        editor.write(sample)
    return editor, [Query(s.image, s.question, s.choices) for s in samples[edits:]]


def time_questions(
    ask: Callable[[Query], Answer], queries: Sequence[Query], threads: int
) -> tuple[float, list[Answer]]:
    """Questions per second, and the answers in the order of the questions."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        answers = list(pool.map(ask, queries))
    return len(queries) / (time.perf_counter() - started), answers


def describe_differences(answers: Sequence[Answer], right: Sequence[Answer]) -> str:
    """How many answers, and lists of facts, are others; and by how much distances differ."""
    pairs = list(zip(answers, right, strict=True))
    texts = sum(a.text != b.text for a, b in pairs)
    facts = sum([h.fact for h in a.hits] != [h.fact for h in b.hits] for a, b in pairs)
    return f"other answers {texts}, other facts {facts}, distances by {max(abs(a.nearest - b.nearest) for a, b in pairs):.1e}"


def run(args: argparse.Namespace) -> None:
    """Compare questions per second, and the answers."""
    editor, queries = prepare(args.model, args.edits, args.questions)

    def answer_by(most: int) -> Callable[[Query], Answer]:
        batcher: CallBatcher[tuple[Query, Generation], Answer] = CallBatcher(editor._answer, most)
        return lambda query: batcher.ask((query, editor.generation))

    time_questions(answer_by(1), queries[:4], 1)  # warm
    alone, right = time_questions(answer_by(1), queries, 1)
    locked, answers = time_questions(answer_by(1), queries, THREADS)
    print(f"{args.edits} edits, {args.questions} questions, seed 100 of the embedded world")
    print(f"one thread                         {alone:5.2f} questions per second")
    print(f"{THREADS} threads, one lock                {locked:5.2f}  ({describe_differences(answers, right)})")
    gathered, answers = time_questions(answer_by(THREADS), queries, THREADS)
    print(f"{THREADS} threads, gathered into batches  {gathered:5.2f}  ({describe_differences(answers, right)})")
    print_ratio(f"{THREADS} threads: one lock / gathered, per question", 1 / locked, 1 / gathered, ">= 1.0")
