"""The two plots of ``reasonedit select``."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reasonedit.embedding.selection import Selection


def plot_selection(selection: Selection, folder: Path) -> None:
    """Draw ``layers.png``, both criteria by layer, and ``weights.png``, vision against language over w.

    All axes of scores begin at 0, and what ties is said below.
    """
    layers, weights = describe_ties(selection)
    figure, axes = _figure()
    _draw_layers(axes, selection)
    _say(figure, "Bars: the standard deviation over the bootstrap runs.", layers)
    figure.savefig(folder / "layers.png", dpi=150)
    figure, axes = _figure()
    _draw_weights(axes, selection)
    _say(figure, "Bars: the standard deviation over the bootstrap runs.", weights)
    figure.savefig(folder / "weights.png", dpi=150)


def describe_ties(selection: Selection) -> tuple[str, str]:
    """Which layers, and which values of w, could as well have been chosen; empty where none could."""
    from reasonedit.report.ties import describe_layer_ties, describe_weight_ties

    criterion, chosen = str(selection.settings["criterion"]), selection.embedding
    layers = [asdict(score) for score in selection.layers]
    weights = [asdict(score) for score in selection.weights]
    return describe_layer_ties(layers, criterion, str(chosen.layer)), describe_weight_ties(weights, chosen.text_weight)


def _say(figure: Any, *sentences: str) -> None:
    """Write sentences below a plot."""
    text = "\n".join(textwrap.fill(sentence, 110) for sentence in sentences if sentence)
    figure.supxlabel(text, x=0.01, ha="left", fontsize=8.5)


def _begin_at_zero(axes: Any) -> None:
    """Have an axis begin at 0, or below where something is."""
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0 else 0.0)


def _figure() -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(alpha=0.25)
    return figure, axes


def _draw_layers(axes: Any, selection: Selection) -> None:
    """Q with its deviation, and the share of views found on an axis of its own."""
    names = list(dict.fromkeys(score.layer for score in selection.layers))
    labels = [name.rsplit(".", 1)[-1].replace("_", "\n") for name in names]
    found_axes = axes.twinx()
    for transform in dict.fromkeys(score.transform for score in selection.layers):
        scores = [score for score in selection.layers if score.transform == transform]
        places = [names.index(score.layer) for score in scores]
        means, deviations = [score.mean for score in scores], [score.std for score in scores]
        lines = axes.errorbar(places, means, deviations, marker="o", capsize=3, label=f"{transform}: Q")
        color, found = lines[0].get_color(), [score.found for score in scores]
        found_axes.plot(places, found, marker="s", linestyle="--", color=color, label=f"{transform}: views found")
    chosen = selection.embedding.layer
    axes.axvline(names.index(chosen), color="black", linestyle=":", label="chosen")
    axes.set_xticks(range(len(names)), labels, rotation=0 if len(names) < 9 else 60, fontsize=9)
    axes.set(
        xlabel="vision-side layer",
        ylabel="bimodal modularity Q",
        title="Which layer keeps a picture and its copies together",
    )
    _begin_at_zero(axes)
    found_axes.set(ylabel="share of views that find their picture", ylim=(0.0, 1.05))
    handles = [*axes.get_legend_handles_labels()[0], *found_axes.get_legend_handles_labels()[0]]
    axes.legend(handles=handles, frameon=False)


def _draw_weights(axes: Any, selection: Selection) -> None:
    weights = [score.weight for score in selection.weights]
    for name, label in (("vision", "vision Q"), ("language", "language Q"), ("balance", "balance (harmonic mean)")):
        means = [getattr(score, name) for score in selection.weights]
        deviations = [getattr(score, f"{name}_std") for score in selection.weights]
        axes.errorbar(weights, means, deviations, marker="o", markersize=4, capsize=2, label=label)
    weight = selection.embedding.text_weight
    axes.axvline(weight, color="black", linestyle=":", label=f"w = {weight:g}")
    axes.set_xscale("log")
    axes.set(xlabel="w, weight of the sentence half", ylabel="modularity Q", title="Vision against language")
    _begin_at_zero(axes)
    axes.legend(frameon=False)
