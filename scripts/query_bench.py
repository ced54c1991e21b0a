"""A question asked with a codebook against the same prompt asked plainly, for ``scripts/bench query``."""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from itertools import islice

from bench_tools import describe_machine, now, print_ratio, time_sides
from PIL import Image

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.design import PAPER, Design
from reasonedit.pipeline import EditingPipeline
from reasonedit.vlm import load_vlm


class Questions:
    """Questions asked with a codebook, and plainly with the prompts that it made.

    Args:
        pipeline: The pipeline with its codebook.
        images: The pictures.
        questions: A question about each.

    Attributes:
        encoder_seconds: What the sentence encoder took each time.
    """

    def __init__(self, pipeline: EditingPipeline, images: list[Image.Image], questions: list[str]) -> None:
        self.pipeline, self.images, self.questions = pipeline, images, questions
        self.prompts: list[str] = []
        self.encoder_seconds: list[float] = []

    def ask_edited(self) -> list[str]:
        """The answers with facts."""
        pipeline = self.pipeline
        vision = pipeline.see(self.images)
        started = now(pipeline.vlm)
        pipeline.embedder.embed_texts(self.questions)
        self.encoder_seconds.append(now(pipeline.vlm) - started)
        retrieved = pipeline.retrieve(vision, self.questions)
        self.prompts, _ = pipeline.prompts(vision, self.questions, retrieved)
        return pipeline.vlm.answer(vision, self.prompts)

    def ask_plainly(self) -> list[str]:
        """The answers to the same prompts, without a codebook."""
        return self.pipeline.vlm.answer(self.pipeline.vlm.see(self.images), self.prompts)


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
            asked = edits[:batch]
            questions = Questions(pipeline, [e.image for e in asked], [e.question for e in asked])
            assert questions.ask_edited() == questions.ask_plainly(), "the same prompt must get the same answer"
            questions.encoder_seconds.clear()
            times = time_sides({"ours": questions.ask_edited, "plain": questions.ask_plainly}, args.repeats, vlm)
            encoder = statistics.median(questions.encoder_seconds)
            ours = times["ours"] - 2 * encoder  # the encoder ran twice, once to be timed
            print_ratio(f"{name}, batch {batch}: edited without encoder / plain", ours, times["plain"], "<= 1.05")
            print(f"    sentence encoder {encoder * 1e3:.1f} ms apart")
