"""``reasonedit select``: which layer, transform and w suit a VLM and its data."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from reasonedit.errors import InputError

from .configs import add_config, parse_with_overrides, read_configs
from .screen import Screen, waiting

if TYPE_CHECKING:
    from PIL import Image

    from reasonedit.embedding import EmbeddingConfig
    from reasonedit.embedding.selection import Selection
    from reasonedit.vlm import VLM

    Pair = tuple[Image.Image, str]

_console = Screen(highlight=False)


def main(argv: Sequence[str]) -> int:
    """Choose layer and w, save the choice as JSON, and draw two plots."""
    arguments, overrides = parse_with_overrides(_parser(), argv)
    embedding = _check(arguments, overrides)
    from reasonedit.embedding.select import select
    from reasonedit.embedding.selection import SelectionConfig
    from reasonedit.runs.folder import new_folder

    config = SelectionConfig(
        embedding,
        criterion=arguments.criterion,
        transforms=tuple(dict.fromkeys(arguments.transforms)),
        layer_sample=arguments.layer_sample,
        weight_sample=arguments.weight_sample,
        runs=arguments.runs,
        neighbours=arguments.neighbours,
        seed=arguments.seed,
    )
    with waiting("loading the VLM"):
        vlm, pairs = _load(arguments, overrides)
    with waiting("comparing layers and weights"):
        selection = select(vlm, pairs, config)
    folder = new_folder(arguments.out)  # only now that there is something to write
    _write(selection, vlm.name, folder)
    _show(selection, folder)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit select",
        description="Choose the vision-side layer (by how well augmented views of a picture find each other, or by "
        "bimodal modularity) and the weight w of the sentence half (by the balance of vision and language modularity).",
    )
    parser.add_argument("--model", default=None, help="VLM: a hub id, a folder, or embedded (the default)")
    parser.add_argument("--encoder", default="embedded", help="sentence encoder: a hub id, a folder, or embedded")
    parser.add_argument(
        "--pairs",
        type=Path,
        default=None,
        help="JSONL file with an image path and a question per line; the embedded "
        "world's development seed when not given",
    )
    add_config(parser, "YAML file of a run: its model and the samples of its data, in place of --model and --pairs")
    parser.add_argument(
        "--criterion",
        choices=("views", "modularity"),
        default="views",
        help="what the layer is chosen by; both are printed (default: views)",
    )
    parser.add_argument("--transforms", nargs="+", default=["raw"], help="raw or whitened, or both (default: raw)")
    parser.add_argument("--pooling", default="mean", help="mean or last (default: mean)")
    parser.add_argument("--reference", default=None, help="unrelated pictures: own, patterns, world or a folder")
    parser.add_argument("--neighbours", type=int, default=None, help="keep only edges to so many nearest nodes")
    parser.add_argument("--layer-sample", type=int, default=20, help="pairs per run for the layer (default: 20)")
    parser.add_argument("--weight-sample", type=int, default=10, help="images and texts per run for w (default: 10)")
    parser.add_argument("--runs", type=int, default=10, help="bootstrap runs (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of samples and copies (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("runs/select"), help="results folder (default: runs/select)")
    parser.add_argument("--dtype", default=None, help="auto (the default), bfloat16, float16 or float32")
    return parser


def _check(arguments: argparse.Namespace, overrides: Sequence[str]) -> EmbeddingConfig:
    """Refuse what cannot be, before the model is loaded; the embedding that is looked at, less what is chosen."""
    from reasonedit.embedding import EmbeddingConfig

    for name in ("runs", "layer_sample", "weight_sample"):
        if getattr(arguments, name) < 2:
            raise InputError(f"--{name.replace('_', '-')} must be 2 or more, not {getattr(arguments, name)}.")
    if arguments.config is not None and arguments.pairs is not None:
        raise InputError("--config and --pairs both name the pictures and questions: leave one out.")
    for name in ("model", "dtype"):
        if arguments.config is not None and getattr(arguments, name) is not None:
            raise InputError(f"--config says the {name}: leave --{name} out, or set --model.init_args.{name}.")
    if arguments.config is None and overrides:
        raise InputError(f"'{overrides[0]}' sets a value of a config: name the config with --config.")
    is_embedded = arguments.model in (None, "embedded") and arguments.config is None
    # With "own" it is looked at beside patterns; a codebook of the design then calibrates itself.
    reference = arguments.reference or ("world" if is_embedded else "own")
    for transform in arguments.transforms:
        embedding = EmbeddingConfig(
            encoder=arguments.encoder, pooling=arguments.pooling, transform=transform, reference=reference
        )
    return embedding


def _load(arguments: argparse.Namespace, overrides: Sequence[str]) -> tuple[VLM, list[Pair]]:
    """The VLM, and the pictures with their questions."""
    count = 2 * arguments.layer_sample
    if arguments.config is not None:
        from reasonedit.config.merging import load_module_and_stream

        module, stream = load_module_and_stream(read_configs(arguments, overrides))
        return module.vlm, [(edit.image, edit.question) for edit in islice(stream.source.candidates(), count)]
    from reasonedit.vlm import load_vlm

    pairs = _read(arguments.pairs) if arguments.pairs else _pairs_of_world(count)
    model, dtype = arguments.model or "embedded", arguments.dtype or "auto"
    return load_vlm(model, dtype=dtype, place=True, trust_remote_code=arguments.trust_remote_code), pairs


def _write(selection: Selection, model: str, folder: Path) -> None:
    from reasonedit.runs.folder import versions, write_json

    from .selection_plots import plot_selection

    write_json(
        folder / "selection.json",
        {
            "model": model,
            "design": {"embedding": asdict(selection.embedding)},
            "layers": [asdict(score) for score in selection.layers],
            "weights": [asdict(score) for score in selection.weights],
            "settings": selection.settings,
            "seconds": selection.seconds,
            "versions": versions(),
        },
    )
    plot_selection(selection, folder)


def _show(selection: Selection, folder: Path) -> None:
    from rich import box
    from rich.table import Table

    from .selection_plots import describe_ties

    criterion = str(selection.settings["criterion"])
    table = Table("layer", "transform", "views found", "AUC", "margin", "bimodal Q", box=box.SIMPLE_HEAD)
    for score in sorted(selection.layers, key=lambda score: score.rank(criterion), reverse=True):
        found = f"{score.found:.3f}", f"{score.auc:.4f}", f"{score.margin:.2f}"
        table.add_row(score.layer, score.transform, *found, f"{score.mean:.3f} ± {score.std:.3f}")
    _console.print(table)
    embedding, seconds = selection.embedding, selection.seconds
    for sentence in filter(None, describe_ties(selection)):
        _console.tell(sentence)
    for line in (
        f"chosen by {criterion}: layer {embedding.layer}, {embedding.transform}, w = {embedding.text_weight:g}",
        f"{seconds['total']:.1f} s, of which forward passes {seconds['forwards']:.1f} s",
        f"Written to {folder}/: selection.json  layers.png  weights.png",
        f"Use it: reasonedit edit … --design {folder}/selection.json, or design: {folder}/selection.json of the "
        "Codebook callback in a config",
    ):
        _console.say(line)


def _pairs_of_world(count: int) -> list[Pair]:
    from reasonedit.data.world.benchmark import EmbeddedWorld

    edits = islice(EmbeddedWorld("demo", seed=100).candidates(), count)
    return [(edit.image, edit.question) for edit in edits]


def _read(path: Path) -> list[Pair]:
    from reasonedit.data.rows import read_rows
    from reasonedit.images import load_image

    pairs = []
    for row in read_rows(path):
        image, question = row.values.get("image"), row.values.get("question")
        if row.problem or not isinstance(image, str) or not isinstance(question, str):
            why = f" ({row.problem})" if row.problem else ""
            raise InputError(
                f'Line {row.number} of \'{path}\' is not of the form {{"image": PATH, "question": TEXT}}{why}.'
            )
        pairs.append((load_image(path.parent / image), question))
    return pairs
