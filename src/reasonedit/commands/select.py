"""``reasonedit select``: which layer, transform and w suit a VLM and its data."""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table

from reasonedit.data.rows import read_rows
from reasonedit.errors import ReasonEditError
from reasonedit.images import load_image
from reasonedit.runs import new_folder, versions, write_json

from .screen import Screen
from .trust import add_trust

if TYPE_CHECKING:
    from PIL import Image

    from reasonedit.embedding.select import Selection

_console = Screen(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Choose by modularity, save the choice as JSON, and draw two plots."""
    parser = argparse.ArgumentParser(
        prog="reasonedit select",
        description="Choose the vision-side layer (by bimodal modularity) and the weight w of the sentence half "
        "(by the balance of vision and language modularity).",
    )
    parser.add_argument("--model", default="embedded", help="VLM: a hub id, a folder, or embedded (the default)")
    parser.add_argument("--encoder", default="embedded", help="sentence encoder: a hub id, a folder, or embedded")
    parser.add_argument(
        "--pairs",
        type=Path,
        default=None,
        help="JSONL file with an image path and a question per line; the embedded "
        "world's development seed when not given",
    )
    parser.add_argument(
        "--config",
        default=None,
        help="YAML file of a run: its model and the samples of its data, in place of the two above",
    )
    parser.add_argument("--transforms", nargs="+", default=["raw"], help="raw, centred, whitened (default: raw)")
    parser.add_argument("--pooling", default="mean", help="mean or last (default: mean)")
    parser.add_argument("--reference", default=None, help="unrelated pictures: patterns, world or a folder")
    parser.add_argument("--neighbours", type=int, default=None, help="keep only edges to so many nearest nodes")
    parser.add_argument("--layer-sample", type=int, default=20, help="pairs per run for the layer (default: 20)")
    parser.add_argument("--weight-sample", type=int, default=10, help="images and texts per run for w (default: 10)")
    parser.add_argument("--runs", type=int, default=10, help="bootstrap runs (default: 10)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/select"), help="results folder (default: runs/select)")
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_trust(parser, config=True)
    given = parser.parse_args(argv)
    for name in ("runs", "layer_sample", "weight_sample"):
        if getattr(given, name) < 2:
            raise ReasonEditError(f"--{name.replace('_', '-')} must be 2 or more, not {getattr(given, name)}.")
    from reasonedit.config import module_and_stream
    from reasonedit.embedding import EmbeddingConfig
    from reasonedit.embedding.select import select
    from reasonedit.vlm import load_vlm

    reference = given.reference or ("world" if given.model == "embedded" else "patterns")
    for transform in given.transforms:  # refused before the model is loaded
        config = EmbeddingConfig(encoder=given.encoder, pooling=given.pooling, transform=transform, reference=reference)
    if given.config is not None and given.pairs is not None:
        raise ReasonEditError("--config and --pairs both say what is looked at: leave one out.")
    with _console.status("loading the VLM"):
        if given.config is not None:
            module, stream = module_and_stream(given.config, trusted=given.trust_remote_code)
            vlm = module.vlm
            pairs = [(e.image, e.question) for e in islice(stream.source.candidates(), 2 * given.layer_sample)]
        else:
            pairs = _read(given.pairs) if given.pairs else _of_world(2 * given.layer_sample)
            vlm = load_vlm(given.model, dtype=given.dtype, place=True, trust_remote_code=given.trust_remote_code)
    with _console.status("comparing layers and weights"):
        chosen = select(
            vlm, pairs, _augment, config=config, transforms=given.transforms, layer_sample=given.layer_sample,
            weight_sample=given.weight_sample, runs=given.runs, neighbours=given.neighbours, seed=given.seed,
        )  # fmt: skip
    folder = new_folder(given.out)  # only now that there is something to write
    write_json(
        folder / "selection.json",
        {
            "model": vlm.name,
            "design": {"embedding": asdict(chosen.embedding)},
            "layers": [asdict(s) for s in chosen.layers],
            "weights": [asdict(s) for s in chosen.weights],
            "settings": chosen.settings,
            "seconds": chosen.seconds,
            "versions": versions(),
        },
    )
    _plot(chosen, folder)
    table = Table("layer", "transform", "bimodal Q", box=box.SIMPLE_HEAD)
    for score in sorted(chosen.layers, key=lambda s: -s.mean):
        table.add_row(score.layer, score.transform, f"{score.mean:.3f} ± {score.std:.3f}")
    _console.print(table)
    e = chosen.embedding
    _console.print(
        f"chosen: layer {e.layer}, {e.transform}, w = {e.text_weight:g}\n"
        f"{chosen.seconds['total']:.1f} s, of which forward passes {chosen.seconds['forwards']:.1f} s\n"
        f"Written to {folder}/: selection.json  layers.png  weights.png\n"
        f"Use it: reasonedit edit … --design {folder}/selection.json, or design: {folder}/selection.json of the\n"
        "Codebook callback in a config",
        soft_wrap=True,
    )
    return 0


def _augment(image: Image.Image, text: str, rng: random.Random) -> tuple[Image.Image, str]:
    from reasonedit.codebook import augmented
    from reasonedit.codebook.paraphrase import by_rules

    return augmented(image, rng)[0], by_rules(text, rng)


def _of_world(count: int) -> list[tuple[Image.Image, str]]:
    from reasonedit.data.world.benchmark import EmbeddedWorld

    edits = islice(EmbeddedWorld("demo", seed=100).candidates(), count)
    return [(edit.image, edit.question) for edit in edits]


def _read(path: Path) -> list[tuple[Image.Image, str]]:
    pairs = []
    for row in read_rows(path):
        image, question = row.values.get("image"), row.values.get("question")
        if row.problem or not isinstance(image, str) or not isinstance(question, str):
            why = f" ({row.problem})" if row.problem else ""
            raise ReasonEditError(
                f'Line {row.number} of \'{path}\' is not of the form {{"image": PATH, "question": TEXT}}{why}.'
            )
        pairs.append((load_image(path.parent / image), question))
    return pairs


def _plot(chosen: Selection, folder: Path) -> None:
    """Q per layer with error bars, the winner marked; the trade-off between vision and language over w."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(s.layer for s in chosen.layers))
    labels = [name.rsplit(".", 1)[-1].replace("_", "\n") for name in names]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for transform in dict.fromkeys(s.transform for s in chosen.layers):
        mine = [s for s in chosen.layers if s.transform == transform]
        at = [names.index(s.layer) for s in mine]
        axes.errorbar(at, [s.mean for s in mine], [s.std for s in mine], marker="o", capsize=3, label=transform)
    best = max(chosen.layers, key=lambda s: s.mean)
    axes.plot(names.index(best.layer), best.mean, marker="*", markersize=20, color="black", zorder=5, linestyle="none",
              label="chosen")  # fmt: skip
    axes.set_xticks(range(len(names)), labels, rotation=0 if len(names) < 9 else 60, fontsize=9)
    axes.set(
        xlabel="vision-side layer",
        ylabel="bimodal modularity Q",
        title="Which layer keeps a pair and its copies together",
    )
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(folder / "layers.png", dpi=150)

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    weights = [s.weight for s in chosen.weights]
    for name, label in (("vision", "vision Q"), ("language", "language Q"), ("balance", "balance (harmonic mean)")):
        axes.errorbar(
            weights, [getattr(s, name) for s in chosen.weights], [getattr(s, f"{name}_std") for s in chosen.weights],
            marker="o", markersize=4, capsize=2, label=label,
        )  # fmt: skip
    axes.axvline(
        chosen.embedding.text_weight, color="black", linestyle=":", label=f"w = {chosen.embedding.text_weight:g}"
    )
    axes.set_xscale("log")
    axes.set(xlabel="w, weight of the sentence half", ylabel="modularity Q", title="Vision against language")
    axes.legend(frameon=False)
    axes.grid(alpha=0.25)
    figure.savefig(folder / "weights.png", dpi=150)
