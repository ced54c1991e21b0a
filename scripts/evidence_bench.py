"""The search for evidence against one pass per window and sentence, for ``scripts/bench evidence``."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from itertools import islice

import one_by_one
import torch
from bench_tools import describe_machine, print_ratio, time_sides, world_edits

from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.data.world.scenes import SIZE
from reasonedit.design import PAPER
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder, crop, windows_of
from reasonedit.pipeline import EditingPipeline
from reasonedit.prompts import verification_question
from reasonedit.types import Edit
from reasonedit.vlm import VLM, load_vlm

_ONE_PASS_EACH = "one pass per window x sentence, affirmed ones two / ours"


def run(args: argparse.Namespace) -> None:
    """Compare results and times, for reasonings of one and of four sentences, and for a whole edit."""
    vlm = load_vlm(args.model, place=True)
    print(describe_machine(vlm))
    finder = EvidenceFinder(vlm, EvidenceConfig())
    for sentences, aim in ((1, ">= 2.5"), (4, ">= 5.0")):
        _compare(finder, world_edits(args.edits, sentences), args.repeats, aim)
    if args.clip:
        _compare_shortlist(finder, world_edits(args.edits, 4), args)
    _count_right_windows(finder, args.edits)
    _compare_whole_edit(vlm, finder.config, args.repeats)


def check_same(ours: list[Evidence], theirs: list[Evidence], tolerance: float) -> int:
    """Check that two searches agree on the probabilities of all windows.

    Returns:
        For how many sentences the same windows were kept.
    """
    for a, b in zip(ours, theirs, strict=True):
        gaps = [abs((x.p_yes or 0) - (y.p_yes or 0)) for x, y in zip(a.windows, b.windows, strict=True)]
        assert max(gaps) < tolerance, f"p_yes differs by {max(gaps):.3f} for '{a.sentence}'"
    return sum(a.boxes == b.boxes for a, b in zip(ours, theirs, strict=True))


def _compare(finder: EvidenceFinder, edits: list[Edit], repeats: int, aim: str) -> None:
    vlm, config = finder.vlm, finder.config
    # In half precision the two orders of summation round differently; windows near the threshold may then change sides.
    tolerance = 1e-3 if vlm.model.dtype == torch.float32 else 0.15
    same = sum(
        check_same(
            finder.find(edit.image, edit.reasoning),
            one_by_one.find(vlm, edit.image, edit.reasoning, config),
            tolerance,
        )
        for edit in edits
    )
    edit = edits[0]
    times = time_sides(
        {
            "theirs": lambda: one_by_one.find(vlm, edit.image, edit.reasoning, config),
            "ours": lambda: finder.find(edit.image, edit.reasoning),
            "floor": lambda: _run_floor(vlm, edit),
        },
        repeats,
        vlm,
    )
    sentences, windows = len(edit.reasoning), len(windows_of(edit.image.size))
    affirmed = sum(w.nll is not None for e in finder.find(edit.image, edit.reasoning) for w in e.windows)
    print(f"{sentences} sentence(s), {windows} windows; the same for {same} of {sentences * len(edits)} sentences")
    print(f"  timed on an edit of which {affirmed} of {sentences * windows} pairs of window and sentence are affirmed")
    print_ratio(f"  {_ONE_PASS_EACH}", times["theirs"], times["ours"], aim)
    print_ratio("  ours / floor", times["ours"], times["floor"], "<= 1.3")


def _compare_shortlist(finder: EvidenceFinder, edits: list[Edit], args: argparse.Namespace) -> None:
    vlm, config = finder.vlm, finder.config
    short = EvidenceFinder(vlm, replace(config, shortlist=args.shortlist, clip=args.clip))
    kept = wanted = 0
    for edit in edits:
        full, listed = finder.find(edit.image, edit.reasoning), short.find(edit.image, edit.reasoning)
        for a, b in zip(full, listed, strict=True):
            wanted += len(a.boxes)
            kept += len(set(a.boxes) & set(b.boxes))
    edit = edits[-1]
    times = time_sides(
        {
            "theirs": lambda: one_by_one.find(vlm, edit.image, edit.reasoning, config),
            "ours": lambda: short.find(edit.image, edit.reasoning),
        },
        args.repeats,
        vlm,
    )
    print(f"shortlist of {args.shortlist} by {args.clip}: {kept} of {wanted} windows the same")
    print_ratio(f"  {_ONE_PASS_EACH}", times["theirs"], times["ours"], ">= 12")


def _compare_whole_edit(vlm: VLM, config: EvidenceConfig, repeats: int) -> None:
    edit = world_edits(1, 4)[0]
    encoder = EditingPipeline(vlm, PAPER).embedder.encoder
    without_evidence = replace(PAPER, writing=replace(PAPER.writing, keys="image"))
    keys_only = EditingPipeline(vlm, without_evidence, encoder=encoder)

    def ours() -> object:
        return EditingPipeline(vlm, PAPER, encoder=encoder).write(edit)

    def theirs() -> object:
        one_by_one.find(vlm, edit.image, edit.reasoning, config)
        return keys_only.write(replace(edit, id=str(time.perf_counter())))

    times = time_sides({"theirs": theirs, "ours": ours}, repeats, vlm)
    print_ratio("whole edit of 4 sentences: their pattern / ours", times["theirs"], times["ours"], ">= 5")


def _count_right_windows(finder: EvidenceFinder, count: int) -> None:
    """Share of kept windows that hold all of the object, beside windows taken at random."""
    world = EmbeddedWorld("demo", seed=100)
    kept = right = holding = windows = sentences = without = 0
    for edit in islice(world.candidates(), 6 * count):
        sample = world.sample(edit.id)
        box = sample.scene.boxes()[sample.scene.things.index(sample.scene.find(sample.kind))]
        x0, y0, x1, y1 = (pixel / SIZE for pixel in box)
        # Sentences that speak of the object: what is seen, and what is known of it.
        for evidence in finder.find(edit.image, edit.reasoning[:2]):
            holds = [
                left <= x0 and top <= y0 and right_edge >= x1 and bottom >= y1
                for left, top, right_edge, bottom in (window.box for window in evidence.windows)
            ]
            kept += sum(window.kept for window in evidence.windows)
            right += sum(window.kept and h for window, h in zip(evidence.windows, holds, strict=True))
            holding, windows = holding + sum(holds), windows + len(holds)
            sentences, without = sentences + 1, without + (not evidence.boxes)
    print(
        f"kept windows that hold the object: {right} of {kept} ({right / kept:.3f}); windows at random: "
        f"{holding / windows:.3f}; {without} of {sentences} sentences got none"
    )


@torch.inference_mode()
def _run_floor(vlm: VLM, edit: Edit) -> None:
    """One vision pass and one prefix per window, and the sentences' own tokens in one batch, with nothing else."""
    image = edit.image
    vision = vlm.see([crop(image, box) for box in windows_of(image.size)])
    inputs = vlm.inputs(vision, [vlm.prompt("")] * len(vision))
    vlm.states(**inputs)
    # Each sentence once as a question and once as a description, without mask, cache or scores.
    texts = [text for sentence in edit.reasoning for text in (verification_question(sentence), sentence)]
    ids = [vlm.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    row = torch.tensor([i for part in ids for i in part], device=vlm.device)
    vlm.states(input_ids=row[None].expand(len(vision), -1))
