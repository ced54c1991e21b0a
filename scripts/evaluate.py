"""Designs on seeds of the embedded world, beside the unedited model and the ceiling.

The ceiling asks the same probes with the edit's own true sentences put before them by hand: what a perfect retrieval
could reach with this VLM. By convention seeds from 100 on are for development, those below for reporting.

Use: scripts/evaluate --seeds 0 1 2 --edits 60 --designs default paper
     scripts/evaluate --seeds 100 101 --set retrieval.k=8 --set retrieval.visual_match=0.8     (one more row: the default, changed)
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from reasonedit.data.base_pass import BasePass
from reasonedit.data.source import Probe
from reasonedit.data.stream import EditStream
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.design import PAPER, Design
from reasonedit.embedding import SentenceEncoder
from reasonedit.groups import LOCALITIES, labels_of
from reasonedit.metrics import matches
from reasonedit.pipeline import EditingPipeline
from reasonedit.prompts import with_facts
from reasonedit.types import Edit
from reasonedit.vlm import VLM, load_vlm

BATCH = 16


def split_batches(probes: Sequence[Probe]) -> Iterator[list[Probe]]:
    ordered = sorted(probes, key=lambda p: (p.query.choices is None, len(p.query.question)))
    for start in range(0, len(ordered), BATCH):
        yield ordered[start : start + BATCH]


def shares_of(right: dict[str, list[bool]]) -> dict[str, float]:
    return {group: sum(answers) / len(answers) for group, answers in right.items() if answers}


def measure_ceiling(vlm: VLM, base: BasePass) -> dict[str, float]:
    edits: dict[str, Edit] = {e.id: e for e in base.edits}
    right: dict[str, list[bool]] = defaultdict(list)
    for part in split_batches([p for p in base.probes if p.group not in LOCALITIES]):
        texts = [with_facts(edits[p.edit_id].reasoning, p.query.question) for p in part]
        answers = vlm.answer(vlm.see([p.query.image for p in part]), texts, [p.query.choices for p in part])
        for probe, answer in zip(part, answers, strict=True):
            right[probe.group].append(matches(answer, probe.targets))
    return shares_of(right)


def measure_design(pipeline: EditingPipeline, base: BasePass, world: EmbeddedWorld) -> dict[str, float]:
    """Write all edits, ask all probes; of R-Gen also how often the sentence it needs was fetched, and what then."""
    started = time.perf_counter()
    for edit in base.edits:
        pipeline.write(edit)
    seconds = (time.perf_counter() - started) / len(base.edits)
    right: dict[str, list[bool]] = defaultdict(list)
    hits: list[int] = []
    reasons = {e.id: set(e.reasoning) for e in base.edits}
    fetched: dict[bool, list[bool]] = {True: [], False: []}
    started = time.perf_counter()
    for part in split_batches(base.probes):
        vision = pipeline.see([p.query.image for p in part])
        questions, choices = [p.query.question for p in part], [p.query.choices for p in part]
        texts, retrievals = pipeline.prompts(vision, questions, pipeline.retrieve(vision, questions), choices)
        answers = pipeline.vlm.answer(vision, texts, choices)
        for probe, answer, retrieval in zip(part, answers, retrievals, strict=True):
            correct = matches(answer, probe.targets)
            right[probe.group].append(correct)
            if probe.group == "r_gen":
                needed = set(world.sample(probe.query.id).reasoning[1:]) & reasons[probe.edit_id]
                assert needed, f"{probe.query.id} shares no sentence with its edit"
                fetched[needed <= set(retrieval.facts)].append(correct)
        hits += [len(r.hits) for r in retrievals]
    row = shares_of(right)
    row["s/edit"], row["keys/edit"] = seconds, len(pipeline.memory) / len(base.edits)
    row["fetched"] = len(fetched[True]) / max(1, len(fetched[True]) + len(fetched[False]))
    row["then"] = sum(fetched[True]) / max(1, len(fetched[True]))
    row["facts"] = sum(hits) / len(hits)
    row["ms"] = 1000 * (time.perf_counter() - started) / len(base.probes)
    return row


def change_design(design: Design, changes: Sequence[str]) -> Design:
    """A design with values such as ``retrieval.k=8`` in place of its own."""
    values: dict[str, Any] = design.to_dict()
    for change in changes:
        name, _, value = change.partition("=")
        part, _, key = name.partition(".")
        try:
            values[part][key] = json.loads(value)
        except ValueError:
            values[part][key] = value
    return Design.from_dict(values)


def print_row(name: str, row: dict[str, float]) -> None:
    cells = [f"{row[g]:.3f}" if g in row else "" for g in labels_of(())]
    rest = [f"{row[k]:.2f}" if k in row else "" for k in ("fetched", "then", "s/edit", "keys/edit", "facts", "ms")]
    print("| " + " | ".join([name, *cells, *rest]) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--seeds", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--edits", type=int, default=60)
    parser.add_argument("--designs", nargs="*", default=[], help="default, paper, or a JSON file of a design")
    parser.add_argument("--set", action="append", default=[], help="part.name=value, in place of the default's")
    parser.add_argument("--no-bounds", action="store_true", help="leave out the unedited model and the ceiling")
    args = parser.parse_args()
    vlm = load_vlm(args.model, place=True)
    default = Design.default("embedded" if args.model == "embedded" else vlm.name)
    designs = {n: default if n == "default" else PAPER if n == "paper" else Design.load(n) for n in args.designs}
    if args.set:
        designs[" ".join(args.set)] = change_design(default, args.set)
    encoder = SentenceEncoder.from_pretrained()
    print(
        "| | "
        + " | ".join(
            [
                *labels_of(()).values(),
                "R-Gen fact fetched",
                "right then",
                "s per edit",
                "keys per edit",
                "facts per query",
                "ms per query",
            ]
        )
        + " |"
    )
    print("|" + " --- |" * (len(labels_of(())) + 7))
    rows: dict[str, list[dict[str, float]]] = defaultdict(list)
    for seed in args.seeds:
        world = EmbeddedWorld("demo", seed=seed, edits=args.edits)
        base = EditStream(world, BATCH).base_pass(vlm)
        if not args.no_bounds:
            rows["unedited"].append({g: share for g, (share, _) in base.metrics.items()})
            rows["ceiling"].append(measure_ceiling(vlm, base))
        for name, design in designs.items():
            rows[name].append(measure_design(EditingPipeline(vlm, design, encoder=encoder), base, world))
        for name, by_seed in rows.items():
            print_row(f"{name}, seed {seed}", by_seed[-1])
    for name, by_seed in rows.items():
        print_row(f"**{name}, mean**", {k: sum(row[k] for row in by_seed) / len(by_seed) for k in by_seed[0]})


if __name__ == "__main__":
    main()
