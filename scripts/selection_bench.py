"""The choice of a layer against its forward passes alone, for ``scripts/bench select``."""

from __future__ import annotations

import argparse

from bench_tools import describe_machine, print_ratio

from reasonedit.commands.select import _pairs_of_world
from reasonedit.embedding import EmbeddingConfig, SentenceEncoder
from reasonedit.embedding.select import select
from reasonedit.embedding.selection import SelectionConfig
from reasonedit.vlm import load_vlm


def run(args: argparse.Namespace) -> None:
    """Choose with one transform, and with two."""
    vlm = load_vlm(args.model, place=True)
    print(describe_machine(vlm))
    pairs, encoder = _pairs_of_world(40), SentenceEncoder.from_pretrained()
    for transforms in (("raw",), ("raw", "whitened")):
        config = SelectionConfig(EmbeddingConfig(reference="world"), transforms)
        selection = select(vlm, pairs, config, encoder)
        chosen, seconds = selection.embedding, selection.seconds
        print(f"{', '.join(transforms)}: {chosen.layer}, {chosen.transform}, w = {chosen.text_weight}")
        what = f"{' and '.join(transforms)}: wall time / forward passes alone"
        print_ratio(what, seconds["total"], seconds["forwards"], "<= 1.2")
