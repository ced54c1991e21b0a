"""Charts as SVG that takes its colours from the page: light or dark, on a screen or on paper."""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

_INK, _FAINT = "#010203", "#010204"  # stand for what the page says
_SERIES = tuple(f"#0102{i:02x}" for i in range(0x10, 0x18))
_MARKS = "osD^vPX*"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 11,
    "svg.fonttype": "none",
    "svg.hashsalt": "reasonedit",  # the same page from the same results
    "text.color": _INK,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.titlesize": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "grid.color": _FAINT,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Line:
    """One line of a chart: its points, rising in x, with intervals where there are any."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def lines(
    panels: Mapping[str, Sequence[Line]],
    *,
    x_label: str,
    y_label: str = "share of right answers",
    log: bool = False,
    shares: bool = True,
    points: Mapping[str, Sequence[float]] | None = None,
) -> str:
    """Panels of lines beside each other, with one legend under them.

    Args:
        panels: For each panel's title its lines; a label has the same colour in all panels.
        x_label: What is on the horizontal axis.
        y_label: What is on the vertical axis.
        log: Whether the horizontal axis is logarithmic.
        shares: Whether the vertical axis goes from 0 to 1.
        points: For each panel where its horizontal axis has ticks, where they are not found by themselves.

    Returns:
        An SVG element.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(4.1 * len(panels) + 0.4, 3.7), layout="constrained")
        FigureCanvasAgg(figure)
        labels: list[str] = []
        handles: dict[str, Any] = {}
        axes: Axes | None = None
        for i, (title, mine) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), i + 1, sharey=axes)
            for line in mine:
                if line.label not in labels:
                    labels.append(line.label)
                number = labels.index(line.label)
                colour = _SERIES[number % len(_SERIES)]
                if line.low is not None and line.high is not None:
                    axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.12, linewidth=0)
                mark = _MARKS[number % len(_MARKS)]
                (handle,) = axes.plot(line.x, line.y, color=colour, marker=mark, markersize=5, linewidth=1.8)
                handles.setdefault(line.label, handle)
            axes.set_title(title, loc="left")
            axes.set_xlabel(x_label)
            if log:
                axes.set_xscale("log")
            ticks = (points or {}).get(title) or sorted({x for line in mine for x in line.x})
            if len(ticks) <= 8:
                axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
                axes.xaxis.set_minor_locator(NullLocator())
            if shares:
                axes.set_ylim(-0.02, 1.02)
            if i == 0:
                axes.set_ylabel(y_label)
            else:
                axes.tick_params(labelleft=False)
            axes.grid(alpha=0.35, linewidth=0.6)
        figure.legend(
            list(handles.values()),
            list(handles),
            loc="outside lower center",
            ncols=min(4 if len(panels) > 1 else 3, max(1, len(handles))),
        )
        return _svg(figure)


def scatter(points: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str) -> str:
    """Named points.

    Args:
        points: For each name x and y, both shares.
        x_label: What is on the horizontal axis.
        y_label: What is on the vertical axis.

    Returns:
        An SVG element.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(7.6, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        near: list[list[str]] = []  # points that lie on each other share a label
        for name, (x, y) in sorted(points.items(), key=lambda p: p[1]):
            ours = name == "ReasonEdit"
            axes.plot(x, y, marker="*" if ours else "o", markersize=15 if ours else 8, linestyle="none",
                      color=_SERIES[0] if ours else _SERIES[1])  # fmt: skip
            for group in near:
                first = points[group[0]]
                if not ours and abs(first[0] - x) < 0.04 and abs(first[1] - y) < 0.04:
                    group.append(name)
                    break
            else:
                near.append([name])
        for group in near:
            x, y = points[group[0]]
            right = x > 0.6
            axes.annotate(
                "\n".join(group), (x, y), (-9 if right else 9, 0), textcoords="offset points", va="center",
                ha="right" if right else "left", fontsize=10, fontweight="bold" if "ReasonEdit" in group else "normal",
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.03, 1.06), ylim=(-0.03, 1.08))
        axes.grid(alpha=0.35, linewidth=0.6)
        return _svg(figure)


def bars(values: Mapping[str, float], *, x_label: str, log: bool = False, digits: int = 2) -> str:
    """Horizontal bars with their values written beside them; nothing is drawn for what is 0.

    Args:
        values: For each name its value.
        x_label: What is on the axis.
        log: Whether the axis is logarithmic.
        digits: Digits after the point.

    Returns:
        An SVG element.
    """
    with rc_context(_STYLE):
        figure = Figure(figsize=(5.4, 0.34 * len(values) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        names = list(values)[::-1]
        axes.barh(names, [values[n] for n in names], color=[_SERIES[0 if n == "ReasonEdit" else 1] for n in names],
                  height=0.62)  # fmt: skip
        if log:
            axes.set_xscale("log")
        most = max(values.values(), default=1.0) or 1.0
        for i, name in enumerate(names):
            at = max(values[name], axes.get_xlim()[0]) if log else values[name]
            axes.text(at, i, f"  {values[name]:.{digits}f}", va="center", fontsize=10)
        axes.set_xlim(right=most * (4 if log else 1.18))
        axes.set_xlabel(x_label)
        axes.tick_params(axis="y", length=0)
        return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    for i, colour in enumerate(_SERIES):
        svg = svg.replace(colour, f"var(--s{i})")
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--rule)")
    svg = re.sub(r"font: ([^;\"]*?)'[^;\"]*", r"font: \1var(--font)", svg)
    svg = re.sub(
        r"<svg ([^>]*?)width=\"([\d.]+)pt\" height=\"[\d.]+pt\"", r'<svg \1style="max-width:\2pt"', svg, count=1
    )
    # Ids are unique within one chart only.
    mark = f"c{zlib.crc32(svg.encode()):x}"
    svg = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", svg)
    return re.sub(r'href="#([^"]+)"', rf'href="#{mark}-\1"', svg)
