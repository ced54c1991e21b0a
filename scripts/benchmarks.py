"""Benchmarks of the method; called by scripts/bench.

Each subcommand runs both sides in one go on the same inputs, asserts that they agree, and prints medians, their ratio,
the bound that is aimed at, and what it ran on. The two sides take turns, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import one_by_one
import torch
from rank_bench import ranks
from scale import scale

from reasonedit.codebook import EditMemory, Entry, Fact
from reasonedit.data.world.benchmark import EmbeddedWorld
from reasonedit.design import PAPER, Design
from reasonedit.evidence import Evidence, EvidenceConfig, EvidenceFinder, crop, windows_of
from reasonedit.pipeline import EditingPipeline
from reasonedit.prompts import verification_question
from reasonedit.types import Edit, Query
from reasonedit.vlm import VLM, load_vlm


def machine(vlm: VLM | None = None) -> str:
    device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
    return f"{device}, {platform.machine()}, torch {torch.__version__}" + (
        f", {vlm.name} {vlm.model.dtype}" if vlm else ""
    )


def now(vlm: VLM | None = None) -> float:
    if vlm is not None and vlm.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(sides: dict[str, Callable[[], object]], repeats: int, vlm: VLM | None = None) -> dict[str, float]:
    """Median seconds of each side; the first round warms up and does not count."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(repeats + 1):
        for name, side in sides.items():
            started = now(vlm)
            side()
            if turn:
                found[name].append(now(vlm) - started)
    return {name: statistics.median(times) for name, times in found.items()}


def report(what: str, slow: float, fast: float, bound: str) -> None:
    print(f"{what:52s} {slow * 1e3:9.1f} ms / {fast * 1e3:9.1f} ms = {slow / fast:6.2f}   (aim {bound})")


def edits_of(count: int, sentences: int, seed: int = 100) -> list[Edit]:
    """Edits of the embedded world with reasonings of so many sentences."""
    made, spare = [], "The image shows a picture. It was drawn by a program. Things have colors. Objects have names."
    for edit in islice(EmbeddedWorld("demo", seed=seed).candidates(), count):
        facts = [*edit.reasoning, *spare.split(". ")][:sentences]
        made.append(Edit.of(edit.image, edit.question, edit.answer, facts))
    return made


def evidence(args: argparse.Namespace) -> None:
    vlm = load_vlm(args.model, place=True)
    print(machine(vlm))
    config = EvidenceConfig()
    finder = EvidenceFinder(vlm, config)
    # In half precision the two orders of summation round differently; windows near the threshold may then change sides.
    tolerance = 1e-3 if vlm.model.dtype == torch.float32 else 0.15
    for sentences, bound in ((1, 2.5), (4, 5.0)):
        edits = edits_of(args.edits, sentences)
        same = total = 0
        for edit in edits:
            ours, theirs = (
                finder.find(edit.image, edit.reasoning),
                one_by_one.find(vlm, edit.image, edit.reasoning, config),
            )
            for a, b in zip(ours, theirs, strict=True):
                gaps = [abs((x.p_yes or 0) - (y.p_yes or 0)) for x, y in zip(a.windows, b.windows, strict=True)]
                assert max(gaps) < tolerance, f"p_yes differs by {max(gaps):.3f} for '{a.sentence}'"
                same += a.boxes == b.boxes
            total += sentences
        edit = edits[0]
        times = timed(
            {
                "theirs": lambda e=edit: one_by_one.find(vlm, e.image, e.reasoning, config),
                "ours": lambda e=edit: finder.find(e.image, e.reasoning),
                "floor": lambda e=edit: floor(vlm, e),
            },
            args.repeats,
            vlm,
        )
        print(
            f"{sentences} sentence(s), {len(windows_of(edit.image.size))} windows; the same for {same} of {total} sentences"
        )
        report("  one pass per window x sentence x score / ours", times["theirs"], times["ours"], f">= {bound}")
        report("  ours / floor", times["ours"], times["floor"], "<= 1.3")
    if args.clip:
        short = EvidenceFinder(vlm, replace(config, shortlist=args.shortlist, clip=args.clip))
        kept = wanted = 0
        for edit in edits:
            full, listed = finder.find(edit.image, edit.reasoning), short.find(edit.image, edit.reasoning)
            for a, b in zip(full, listed, strict=True):
                wanted += len(a.boxes)
                kept += len(set(a.boxes) & set(b.boxes))
        times = timed(
            {
                "theirs": lambda: one_by_one.find(vlm, edit.image, edit.reasoning, config),
                "ours": lambda: short.find(edit.image, edit.reasoning),
            },
            args.repeats,
            vlm,
        )
        print(f"shortlist of {args.shortlist} by {args.clip}: {kept} of {wanted} windows the same")
        report("  one pass per window x sentence x score / ours", times["theirs"], times["ours"], ">= 12")
    right_windows(finder, args.edits)
    edit = edits_of(1, 4)[0]

    def whole() -> object:
        return EditingPipeline(vlm, PAPER, encoder=encoder).write(edit)

    def apart() -> object:
        one_by_one.find(vlm, edit.image, edit.reasoning, config)
        return whole_without.write(replace(edit, id=str(time.perf_counter())))

    encoder = EditingPipeline(vlm, PAPER).embedder.encoder
    whole_without = EditingPipeline(vlm, replace(PAPER, writing=replace(PAPER.writing, keys="image")), encoder=encoder)
    times = timed({"theirs": apart, "ours": whole}, args.repeats, vlm)
    report("whole edit of 4 sentences: their pattern / ours", times["theirs"], times["ours"], ">= 5")


def shapes(args: argparse.Namespace) -> None:
    """Random weights of published shapes: seconds per edit, milliseconds per query, memory, and the evidence's ratio."""
    from shapes import SHAPES

    for name in args.shapes or SHAPES:
        shape(name, args)


def shape(name: str, args: argparse.Namespace) -> None:
    from shapes import shaped

    vlm = shaped(name, args.depth)
    on_gpu = vlm.device.type == "cuda"
    weights = sum(p.numel() * p.element_size() for p in vlm.model.parameters()) / 2**30
    print(f"{machine(vlm)}; weights {weights:.1f} GiB")
    # With random weights hardly any window is affirmed: half of them are made to be, as that is more work.
    edit = edits_of(1, args.sentences)[0]
    finder = EvidenceFinder(vlm, EvidenceConfig())
    asked = sorted(w.p_yes or 0.0 for e in finder.find(edit.image, edit.reasoning) for w in e.windows)
    config = EvidenceConfig(p_yes=asked[len(asked) // 2])
    finder = EvidenceFinder(vlm, config)
    design = replace(PAPER, evidence=config)
    pipeline = EditingPipeline(vlm, design)
    pipeline.embedder.statistics  # noqa: B018 - taken once, not per edit
    encoder, statistics = pipeline.embedder.encoder, pipeline.embedder.statistics
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    sides = {
        "ours": lambda: finder.find(edit.image, edit.reasoning),
        "edit": lambda: EditingPipeline(vlm, design, encoder=encoder, statistics=statistics).write(edit),
    }
    times = timed(sides, args.repeats, vlm)
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else float("nan")
    apart: list[Evidence] = []
    theirs = timed({"theirs": lambda: apart.extend(one_by_one.find(vlm, edit.image, edit.reasoning, config))}, 1, vlm)[
        "theirs"
    ]
    for a, b in zip(finder.find(edit.image, edit.reasoning), apart, strict=False):
        gaps = [abs((x.p_yes or 0) - (y.p_yes or 0)) for x, y in zip(a.windows, b.windows, strict=True)]
        assert max(gaps) < 0.15, f"p_yes differs by {max(gaps):.3f} for '{a.sentence}'"
    pipeline.write(edit)
    questions = [edit.question] * 8

    def ask(count: int) -> object:
        vision = pipeline.embedder.see([edit.image] * count)
        texts, _ = pipeline.prompts(vision, questions[:count], pipeline.retrieve(vision, questions[:count]))
        return vlm.answer(vision, texts, max_new_tokens=8)

    asking = timed({"1": lambda: ask(1), "8": lambda: ask(8)}, args.repeats, vlm)
    report(f"  evidence of {args.sentences}: one pass each / ours", theirs, times["ours"], ">= 2.5")
    memory = f", peak {peak:.1f} GiB" if on_gpu else ""
    print(f"  {times['edit']:.2f} s per edit{memory}; per query {asking['1'] * 1e3:.0f} ms alone, ", end="")
    print(f"{asking['8'] / 8 * 1e3:.0f} ms among 8")


def right_windows(finder: EvidenceFinder, count: int) -> None:
    """Share of kept windows that hold all of the cell in which the object stands, beside windows taken at random."""
    world = EmbeddedWorld("demo", seed=100)
    kept = found = chance = windows = sentences = without = 0
    for edit in islice(world.candidates(), 6 * count):
        sample = world.sample(edit.id)
        cell = next(t.cell for t in sample.scene.things if t.kind == sample.kind)
        row, column = divmod(cell, 3)
        # Sentences that speak of the object: what is seen, and what is known of it.
        for evidence in finder.find(edit.image, edit.reasoning[:2]):
            holds = [
                b[0] <= column / 3 + 1e-6
                and b[1] <= row / 3 + 1e-6
                and b[2] >= (column + 1) / 3 - 1e-6
                and b[3] >= (row + 1) / 3 - 1e-6
                for b in (w.box for w in evidence.windows)
            ]
            kept += sum(w.kept for w in evidence.windows)
            found += sum(w.kept and h for w, h in zip(evidence.windows, holds, strict=True))
            chance, windows = chance + sum(holds), windows + len(holds)
            sentences, without = sentences + 1, without + (not evidence.boxes)
    print(
        f"kept windows that hold the object: {found} of {kept} ({found / kept:.3f}); windows at random: {chance / windows:.3f}; {without} of {sentences} sentences got none"
    )


@torch.inference_mode()
def floor(vlm: VLM, edit: Edit) -> None:
    """One vision pass and one prefix per window, and the sentences' own tokens in one batch, with nothing else."""
    image = edit.image
    vision = vlm.see([crop(image, box) for box in windows_of(image.size)])
    inputs = vlm.inputs(vision, [vlm.prompt("")] * len(vision))
    vlm.states(**inputs)
    # Each sentence once as a question and once as a description, without mask, cache or scores.
    texts = [t for s in edit.reasoning for t in (verification_question(s), s)]
    ids = [vlm.tokenizer(t, add_special_tokens=False)["input_ids"] for t in texts]
    row = torch.tensor([i for part in ids for i in part], device=vlm.device)
    vlm.states(input_ids=row[None].expand(len(vision), -1))


class Edited:
    """The same questions asked with a codebook, and plainly with the prompts that it made."""

    def __init__(self, pipeline: EditingPipeline, images: list, questions: list[str]) -> None:
        self.pipeline, self.images, self.questions = pipeline, images, questions
        self.prompts: list[str] = []
        self.encoding: list[float] = []

    def ask(self) -> list[str]:
        pipeline = self.pipeline
        vision = pipeline.see(self.images)
        started = now(pipeline.vlm)
        pipeline.embedder.embed_texts(self.questions)
        self.encoding.append(now(pipeline.vlm) - started)
        found = pipeline.retrieve(vision, self.questions)
        self.prompts, _ = pipeline.prompts(vision, self.questions, found)
        return pipeline.vlm.answer(vision, self.prompts)

    def plain(self) -> list[str]:
        return self.pipeline.vlm.answer(self.pipeline.vlm.see(self.images), self.prompts)


def query(args: argparse.Namespace) -> None:
    vlm = load_vlm(args.model, place=True)
    print(machine(vlm))
    for name, design in (("default", Design.default(vlm.name)), ("paper", PAPER)):
        pipeline = EditingPipeline(vlm, design)
        edits = list(islice(EmbeddedWorld("demo", seed=100).candidates(), args.edits))
        for edit in edits:
            pipeline.write(replace(edit, choices=None))
        for batch in (1, 8):
            queries = [Query(e.image, e.question) for e in edits[:batch]]
            questions = [q.question for q in queries]
            images = [q.image for q in queries]
            edited = Edited(pipeline, images, questions)
            assert edited.ask() == edited.plain(), "the same prompt must get the same answer"
            edited.encoding.clear()
            times = timed({"ours": edited.ask, "plain": edited.plain}, args.repeats, vlm)
            encoder = statistics.median(edited.encoding)
            # The encoder ran twice, once to be timed.
            ours = times["ours"] - 2 * encoder
            report(f"{name}, batch {batch}: edited without encoder / plain", ours, times["plain"], "<= 1.05")
            print(f"    sentence encoder {encoder * 1e3:.1f} ms apart")


def growth(args: argparse.Namespace) -> None:
    vlm = load_vlm(args.model, place=True)
    print(machine(vlm))
    for name, design in (("default", Design.default(vlm.name)),):
        pipeline = EditingPipeline(vlm, design)
        apart = EditMemory(merge=False)
        marks, times, written = (10, 100, 300), [], 0
        for edit in islice(EmbeddedWorld("stress", seed=100).candidates(), marks[-1]):
            started = now(vlm)
            made = pipeline.write(edit)
            times.append(now(vlm) - started)
            written += len(made.entries)
            apart.write(edit, made.entries)
        at = [statistics.median(times[max(0, m - 10) : m]) for m in marks]
        print(f"{name}: whole edit at 10 / 100 / 300: " + " / ".join(f"{t * 1e3:.0f} ms" for t in at))
        report("  at 300 / at 10", at[-1], at[0], "<= 1.1")
        print(
            f"  keys per edit: {len(pipeline.memory) / marks[-1]:.2f} merged, {len(apart) / marks[-1]:.2f} kept apart"
        )
    from reasonedit.retrieval import HubScale, PercentileGate

    for hubness in (False, True):
        memory, gate, hubs = EditMemory(), PercentileGate(10), HubScale()
        generator = torch.Generator().manual_seed(0)
        at = {}
        for size in (100, 1_000, 10_000, 100_000):
            while len(memory) < size - 40:
                rows = torch.randn(min(500, size - 40 - len(memory)), args.width, generator=generator)
                edit = synthetic(len(memory))
                memory.write(edit, [Entry(r, 1.0, Fact(str(i), "image", edit.id)) for i, r in enumerate(rows)])
            gate.update(memory.keys)
            if hubness:
                hubs.update(memory.keys)
            spent = []
            for _ in range(8):
                edit = synthetic(len(memory))
                rows = torch.randn(5, args.width, generator=generator)
                started = time.perf_counter()
                memory.write(edit, [Entry(r, 1.0, Fact(str(i), "image", edit.id)) for i, r in enumerate(rows)])
                gate.update(memory.keys)
                if hubness:
                    hubs.update(memory.keys)
                gate.threshold(len(memory.edits))
                spent.append(time.perf_counter() - started)
            at[size] = statistics.median(spent)
            if hubness and size == 10_000:
                break
        label = "with hubness" if hubness else "merge, threshold, index"
        print(
            f"codebook's own cost per edit of 5 keys ({label}): "
            + ", ".join(f"{n:,}: {t * 1e3:.2f} ms" for n, t in at.items())
        )
        report("  last / first", at[max(at)], at[min(at)], "<= 3")


def synthetic(number: int) -> Edit:
    from PIL import Image

    return Edit.of(Image.new("RGB", (8, 8)), "What?", "this", ["It is."])


def select(args: argparse.Namespace) -> None:
    from reasonedit.commands.select import _augment, _pairs_of_world
    from reasonedit.embedding import EmbeddingConfig, SentenceEncoder
    from reasonedit.embedding.select import select as choose
    from reasonedit.embedding.selection import SelectionConfig

    vlm = load_vlm(args.model, place=True)
    print(machine(vlm))
    pairs, encoder = _pairs_of_world(40), SentenceEncoder.from_pretrained()
    for transforms in (["raw"], ["raw", "whitened"]):
        config = SelectionConfig(EmbeddingConfig(reference="world"), tuple(transforms))
        found = choose(vlm, pairs, _augment, config, encoder)
        print(
            f"{', '.join(transforms)}: {found.embedding.layer}, {found.embedding.transform}, w = {found.embedding.text_weight}"
        )
        report("  wall time / forward passes alone", found.seconds["total"], found.seconds["forwards"], "<= 1.2")


def retrieval(args: argparse.Namespace) -> None:
    import faiss

    from reasonedit.retrieval import ExactIndex

    print(machine())
    generator = torch.Generator().manual_seed(0)
    for count in (1_000, 10_000, 100_000):
        keys = torch.randn(count, args.width, generator=generator)
        ours, flat = ExactIndex(), faiss.IndexFlatL2(args.width)
        ours.add(keys)
        flat.add(keys.numpy())
        for batch in (1, 64):
            queries = torch.randn(batch, args.width, generator=generator)

            def tuned(threshold: int, q: torch.Tensor = queries, index: object = flat) -> object:
                faiss.cvar.distance_compute_blas_threshold = threshold
                return index.search(q.numpy(), 5)[1]

            def in_torch(q: torch.Tensor = queries, k: torch.Tensor = keys) -> object:
                return torch.cdist(q, k).topk(5, largest=False).indices

            sides = {
                "ours": lambda q=queries, o=ours: o.search(q, 5)[1],
                "faiss by loops": lambda t=tuned: t(10**9),
                "faiss by BLAS": lambda t=tuned: t(1),
                "torch": in_torch,
            }
            assert (sides["ours"]().numpy() == sides["faiss by loops"]()).all()
            times = timed(sides, args.repeats)
            best = min((n for n in times if n != "ours"), key=times.__getitem__)
            report(
                f"{count:,} keys of {args.width}, batch {batch}: ours / {best}", times["ours"], times[best], "<= 1.1"
            )


def threads(args: argparse.Namespace) -> None:
    import thread_bench

    thread_bench.main(args.model, args.edits, args.questions)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, run in (
        ("evidence", evidence),
        ("query", query),
        ("growth", growth),
        ("select", select),
        ("retrieval", retrieval),
        ("shapes", shapes),
        ("scale", scale),
        ("ranks", ranks),
        ("threads", threads),
    ):
        command = commands.add_parser(name)
        command.set_defaults(run=run)
        command.add_argument("--repeats", type=int, default=5)
        if name == "scale":
            command.add_argument("--sizes", nargs="+", type=int, default=[10_000, 100_000, 1_000_000])
            command.add_argument("--threads", type=int, default=torch.get_num_threads())
            command.add_argument("--folder", default=None, help="where the codebooks are made and removed again")
        if name in ("ranks", "threads"):
            command.add_argument("--edits", type=int, default=16)
        if name == "threads":
            command.add_argument("--questions", type=int, default=64)
        if name not in ("retrieval", "shapes", "scale", "ranks"):
            command.add_argument("--model", default="embedded")
        if name in ("evidence", "query"):
            command.add_argument("--edits", type=int, default=10)
        if name == "evidence":
            command.add_argument("--clip", default=None, help="open_clip model of the shortlist, ARCHITECTURE:WEIGHTS")
            command.add_argument("--shortlist", type=int, default=8)
        if name == "shapes":
            command.add_argument("--shapes", nargs="+", default=None, help="which of those in scripts/shapes.py")
            command.add_argument("--depth", type=int, default=None, help="so many layers of each part instead of all")
            command.add_argument("--sentences", type=int, default=2)
        if name in ("growth", "retrieval"):
            command.add_argument("--width", type=int, default=448, help="numbers per key (default: 448)")
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
