"""A question asked with a codebook against the same prompt asked plainly, for ``scripts/bench query``."""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any
from unittest.mock import patch

from bench_tools import describe_machine, now, print_ratio, time_sides
from PIL import Image

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.design import PAPER, Design
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Query
from reasonedit.vlm import Generation, load_vlm

_OTHER = "all else"
_BESIDE = "sentence encoder, beside the vision part"


class Questions:
    """Questions asked with a codebook, and plainly with the prompts that it made.

    Args:
        pipeline: The pipeline with its codebook.
        images: The pictures.
        questions: A question about each.

    Attributes:
        prompts: The questions with their facts, as they were asked last.
        steps: Milliseconds of each step of an edited question, each time.
        columns: Passes of the language model and columns in them, padding included, by the side that ran last.
    """

    def __init__(self, pipeline: EditingPipeline, images: list[Image.Image], questions: list[str]) -> None:
        self.pipeline, self.images, self.questions = pipeline, images, questions
        self.prompts: list[str] = []
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.columns: dict[str, tuple[int, int]] = {}

    def ask_edited(self) -> list[str]:
        """The answers with facts, by the codebook; its steps are timed."""
        with self._timing() as spent, self._counting("edited"):
            started = now(self.pipeline.vlm)
            queries = [Query(i, q) for i, q in zip(self.images, self.questions, strict=True)]
            answers = self.pipeline.answer(queries)
            total = 1e3 * (now(self.pipeline.vlm) - started)
        for name, milliseconds in spent.items():
            self.steps[name].append(milliseconds)
        self.steps[_OTHER].append(total - sum(ms for name, ms in spent.items() if name != _BESIDE))
        self.prompts = [answer.prompt for answer in answers]
        return [answer.text for answer in answers]

    def ask_plainly(self) -> list[str]:
        """The answers to the same prompts, without a codebook."""
        with self._counting("plain"):
            return self.pipeline.vlm.answer(self.pipeline.vlm.see(self.images), self.prompts)

    def ask_generate(self) -> None:
        """The same prompts by transformers' own ``generate``."""
        vlm = self.pipeline.vlm
        with self._counting("generate"):
            vlm.generate(vlm.see(self.images), [vlm.prompt(p) for p in self.prompts], Generation())

    def ask_unedited(self) -> list[str]:
        """The answers to the questions alone."""
        with self._counting("unedited"):
            return self.pipeline.vlm.answer(self.pipeline.vlm.see(self.images), self.questions)

    @contextmanager
    def _counting(self, side: str) -> Iterator[None]:
        vlm, shapes = self.pipeline.vlm, list[int]()
        first = vlm.model.get_submodule(vlm.language_layers[0])
        with ExitStack() as hooks:
            hook = first.register_forward_pre_hook(
                lambda _m, args, named: shapes.append((args or (named["hidden_states"],))[0].shape[:2].numel()),
                with_kwargs=True,
            )
            hooks.callback(hook.remove)
            yield
        self.columns[side] = (len(shapes), sum(shapes))

    @contextmanager
    def _timing(self) -> Iterator[dict[str, float]]:
        """Time the steps of what runs meanwhile: milliseconds by name."""
        pipeline, vlm = self.pipeline, self.pipeline.vlm
        spent: dict[str, float] = {}
        steps: list[tuple[str, Any, str]] = [
            ("vision part: the pictures and their regions", vlm, "see"),
            (_BESIDE, pipeline.embedder.encoder, "encode"),
            ("keys: pooling, waiting for the sentence encoder", pipeline, "queries"),
            ("search", pipeline, "nearest"),
            ("verification", vlm, "p_yes"),
            ("prompts", pipeline, "prompts"),
            ("answers: reading the prompts, decoding", vlm, "reply"),
        ]
        with ExitStack() as patches:
            for name, owner, attribute in steps:
                spent[name] = 0.0
                timed = self._timed(getattr(owner, attribute), spent, name)
                patches.enter_context(patch.object(owner, attribute, timed))
            yield spent

    def _timed(self, step: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
        def run(*args: Any, **options: Any) -> Any:
            started = now(self.pipeline.vlm)
            try:
                return step(*args, **options)
            finally:
                spent[name] += 1e3 * (now(self.pipeline.vlm) - started)

        return run


def run(args: argparse.Namespace) -> None:
    """Compare answers and times, one question at a time and eight."""
    vlm = load_vlm(args.model, place=True)
    print(describe_machine(vlm))
    edits = list(islice(EmbeddedWorld("demo", seed=100).candidates(), args.edits))
    for name, design in (("default", Design.default(vlm.name)), ("paper", PAPER)):
        pipeline = EditingPipeline(vlm, design)
        for edit in edits:
            pipeline.write(replace(edit, choices=None))
        for batch in (1, 8):
            asked = edits[-batch:]
            questions = Questions(pipeline, [e.image for e in asked], [e.question for e in asked])
            # In half precision sums that are taken in another order may turn an answer that is as likely as another.
            edited, plain = questions.ask_edited(), questions.ask_plainly()
            same = sum(a == b for a, b in zip(edited, plain, strict=True))
            questions.steps.clear()
            sides = {
                "edited": questions.ask_edited,
                "plain": questions.ask_plainly,
                "generate": questions.ask_generate,
                "unedited": questions.ask_unedited,
            }
            _report(f"{name}, batch {batch}", questions, time_sides(sides, args.repeats, vlm))
            print(f"    the same prompt got the same answer {same} of {batch} times")


def _report(what: str, questions: Questions, times: dict[str, float]) -> None:
    """Print the ratios, and where the milliseconds of an edited question go."""
    print_ratio(f"{what}: edited / the same prompt", times["edited"], times["plain"], "<= 1.05")
    print_ratio("  edited / the same prompt by transformers", times["edited"], times["generate"], "<= 1.05")
    print_ratio("  edited / the question alone", times["edited"], times["unedited"], "<= 1.8")
    for name, milliseconds in questions.steps.items():
        print(f"    {statistics.median(milliseconds[1:]):8.1f} ms  {name}")
    counts = ", ".join(f"{side} {passes} and {columns}" for side, (passes, columns) in questions.columns.items())
    print(f"    passes of the language model, and tokens with padding: {counts}")
