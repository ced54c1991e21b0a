"""The two plots of ``reasonedit select``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reasonedit.embedding.selection import Selection


def plot_selection(selection: Selection, folder: Path) -> None:
    """Draw ``layers.png``, both criteria by layer, and ``weights.png``, vision against language over w."""
    figure, axes = _figure()
    _draw_layers(axes, selection)
    figure.savefig(folder / "layers.png", dpi=150)
    figure, axes = _figure()
    _draw_weights(axes, selection)
    figure.savefig(folder / "weights.png", dpi=150)


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
    found_axes.set_ylabel("share of views that find their picture")
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
    axes.legend(frameon=False)
