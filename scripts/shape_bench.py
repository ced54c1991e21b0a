"""Random weights of published shapes, for ``scripts/bench shapes``: times, memory, and the evidence's ratio."""

from __future__ import annotations

import argparse
from dataclasses import replace

import one_by_one
import torch
from bench_tools import describe_machine, print_ratio, time_sides, world_edits
from evidence_bench import check_same
from shapes import SHAPES, build_vlm

from reasonedit.design import PAPER
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Edit
from reasonedit.vlm import VLM


def run(args: argparse.Namespace) -> None:
    """Print seconds per edit, milliseconds per query, memory and the evidence's ratio of each shape."""
    for name in args.shapes or SHAPES:
        _run_shape(build_vlm(name, args.depth), args)


def _run_shape(vlm: VLM, args: argparse.Namespace) -> None:
    on_gpu = vlm.device.type == "cuda"
    weights = sum(p.numel() * p.element_size() for p in vlm.model.parameters()) / 2**30
    print(f"{describe_machine(vlm)}; weights {weights:.1f} GiB")
    edit = world_edits(1, args.sentences)[0]
    config = _affirm_half(vlm, edit)
    finder = EvidenceFinder(vlm, config)
    design = replace(PAPER, evidence=config)
    pipeline = EditingPipeline(vlm, design)
    encoder, statistics = pipeline.embedder.encoder, pipeline.embedder.statistics  # taken once, not per edit
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times = time_sides(
        {
            "ours": lambda: finder.find(edit.image, edit.reasoning),
            "edit": lambda: EditingPipeline(vlm, design, encoder=encoder, statistics=statistics).write(edit),
        },
        args.repeats,
        vlm,
    )
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
    one_each: list[list[Evidence]] = []
    theirs = time_sides(
        {"theirs": lambda: one_each.append(one_by_one.find(vlm, edit.image, edit.reasoning, config))}, 1, vlm
    )["theirs"]
    check_same(finder.find(edit.image, edit.reasoning), one_each[0], 0.15)
    pipeline.write(edit)
    asking = time_sides({str(n): lambda n=n: _ask(pipeline, edit, n) for n in (1, 8)}, args.repeats, vlm)
    print_ratio(f"  evidence of {args.sentences}: one pass each / ours", theirs, times["ours"], ">= 2.5")
    memory = f", peak {peak:.1f} GiB" if on_gpu else ""
    print(f"  {times['edit']:.2f} s per edit{memory}; per query {asking['1'] * 1e3:.0f} ms alone, ", end="")
    print(f"{asking['8'] / 8 * 1e3:.0f} ms among 8")


def _affirm_half(vlm: VLM, edit: Edit) -> EvidenceConfig:
    """Settings with which half of the windows are affirmed: with random weights hardly any are, which is less work."""
    evidence = EvidenceFinder(vlm, EvidenceConfig()).find(edit.image, edit.reasoning)
    probabilities = sorted(window.p_yes or 0.0 for e in evidence for window in e.windows)
    return EvidenceConfig(p_yes=probabilities[len(probabilities) // 2])


def _ask(pipeline: EditingPipeline, edit: Edit, count: int) -> object:
    questions = [edit.question] * count
    vision = pipeline.embedder.see([edit.image] * count)
    prompts, _ = pipeline.prompts(vision, questions, pipeline.retrieve(vision, questions))
    return pipeline.vlm.answer(vision, prompts, max_new_tokens=8)
