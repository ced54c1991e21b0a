"""``reasonedit calibrate``: what unlabelled pictures like the user's say of a VLM."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reasonedit.errors import InputError

from .screen import Screen, counting, waiting
from .trust import add_trust

if TYPE_CHECKING:
    from reasonedit.calibration import Calibration, CalibrationPictures
    from reasonedit.design import Design
    from reasonedit.vlm import VLM

_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Calibrate by a folder of pictures, and write it into a folder or into a codebook."""
    arguments = _parser().parse_args(argv)
    if (arguments.codebook is None) == (arguments.out is None):
        raise InputError("Say where the calibration goes: --out FOLDER, or --codebook FOLDER for one that is there.")
    if arguments.codebook is not None:
        return _calibrate_codebook(arguments)
    return _calibrate_vlm(arguments)


def _calibrate_vlm(arguments: argparse.Namespace) -> int:
    """Write the calibration of a VLM into a folder."""
    from reasonedit.calibration import CalibrationPictures, calibrate
    from reasonedit.calibration.calibration import refuse_another
    from reasonedit.design import Design
    from reasonedit.embedding import DualEmbedder
    from reasonedit.vlm import load_vlm

    refuse_another(arguments.out)
    pictures = CalibrationPictures.of(arguments.pictures)
    model = arguments.model or "embedded"
    default = Design.default(model)
    design = Design.load(arguments.design, default) if arguments.design else default
    with waiting("loading the VLM"):
        vlm = load_vlm(model, dtype=arguments.dtype, place=True, trust_remote_code=arguments.trust_remote_code)
    layers: dict[str, float] = {}
    if arguments.layer == "auto":
        layers = _choose_layer(vlm, pictures, design)
    embedding = replace(design.embedding, layer=next(iter(layers), arguments.layer or design.embedding.layer))
    with counting() as bar:
        task = bar.add_task("reading pictures", total=len(pictures))
        made = calibrate(
            DualEmbedder(vlm, embedding), pictures, lambda done, of: bar.update(task, completed=done, total=of)
        )
    made = replace(made, record=replace(made.record, layers=layers))
    made.save(arguments.out)
    _show(made, design)
    _console.say(f"{arguments.out} holds the calibration: new codebooks: --calibration {arguments.out}")
    return 0


def _calibrate_codebook(arguments: argparse.Namespace) -> int:
    """Calibrate a codebook that is there: its edits are embedded anew."""
    from reasonedit.calibration import CalibrationPictures, calibrate
    from reasonedit.editor import ReasonEditor
    from reasonedit.recalibrate import recalibrate

    for name in ("model", "design", "layer"):
        if getattr(arguments, name) is not None:
            raise InputError(f"The codebook '{arguments.codebook}' has its {name} already: leave --{name} out.")
    pictures = CalibrationPictures.of(arguments.pictures)
    with waiting("loading the VLM"):
        editor = ReasonEditor.load(
            arguments.codebook, dtype=arguments.dtype, trust_remote_code=arguments.trust_remote_code
        )
    with counting() as bar:
        task = bar.add_task("reading pictures", total=len(pictures))
        made = calibrate(
            editor.pipeline.embedder, pictures, lambda done, of: bar.update(task, completed=done, total=of)
        )
        task = bar.add_task("embedding edits again", total=None)
        anew = recalibrate(editor.pipeline, made, lambda done, of: bar.update(task, completed=done, total=of))
    _show(made, editor.pipeline.design)
    kept = len(editor.edits) + len(editor.memory.undone)  # an undone one can be restored, with keys that compare
    _console.say(f"{arguments.codebook} is calibrated; embedded again: {anew} of {kept} edits, undone ones included")
    return 0


def _choose_layer(vlm: VLM, pictures: CalibrationPictures, design: Design) -> dict[str, float]:
    from rich import box
    from rich.table import Table

    from reasonedit.calibration.layer import choose_layer

    with waiting("comparing layers"):
        layers = choose_layer(vlm, pictures, design.embedding)
    table = Table("layer", "views that find each other", box=box.SIMPLE_HEAD)
    for layer, share in layers.items():
        table.add_row(layer, f"{share:.3f}")
    _console.print(table)
    return layers


def _show(made: Calibration, design: Design) -> None:
    """Show what was found."""
    from rich import box
    from rich.table import Table

    from reasonedit.calibration import PictureRange, match_threshold

    record, retrieval, unrelated = made.record, design.retrieval, made.statistics.unrelated
    rows: dict[str, Any] = {
        "pictures": record.pictures,
        "seconds": record.seconds,
        "layer": record.layer,
        "transform": record.transform,
    }
    if unrelated is not None and retrieval.false_alarms is not None:
        bound = match_threshold(unrelated.scores, retrieval.false_alarms)
        rows["visual match"] = f"{bound:.2f} standard deviations, for {retrieval.false_alarms:.3g} false alarms"
    like = PictureRange.of(made.statistics, retrieval.out_of_range)
    if like is not None:
        rows["range"] = (
            f"pictures within {like.reach():.2f} times the usual distance, for {retrieval.out_of_range:.3g} out"
        )
    table = Table(box=box.SIMPLE_HEAD, show_header=False)
    for name, value in rows.items():
        table.add_row(name, str(value))
    _console.print(table)
    for note in record.left_out:
        _console.tell(note)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="reasonedit calibrate",
        description="Learn from unlabelled pictures, like those that will be asked about, what is near and what is far "
        "for a VLM. 64 pictures or more are best; 16 are the least.",
    )
    parser.add_argument("--model", default=None, help="hub id, folder, or embedded (the default)")
    parser.add_argument("--pictures", type=Path, required=True, help="folder of pictures, folders in it included")
    parser.add_argument("--out", "--output", type=Path, default=None, help="folder for the calibration, which is made")
    parser.add_argument("--codebook", type=Path, default=None, help="a codebook that is calibrated again, in its place")
    parser.add_argument("--design", default=None, help="design it is for, a JSON file (default: that of the VLM)")
    parser.add_argument(
        "--layer", default=None, help="layer to read, or auto: the one whose views of a picture find each other best"
    )
    parser.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
    add_trust(parser)
    return parser
