"""Charts of the report, each an SVG element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from .svg import MARKS, SERIES, STYLE, to_svg


@dataclass(frozen=True)
class Line:
    """One line of a chart: its points, rising in x, with intervals where there are any."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def draw_lines(
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
        points: For each panel with ticks of its own on the horizontal axis, where they are; elsewhere they are at the
            lines' points.

    Returns:
        An SVG element.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(4.1 * len(panels) + 0.4, 3.7), layout="constrained")
        FigureCanvasAgg(figure)
        numbers: dict[str, int] = {}
        handles: dict[str, Any] = {}
        axes: Axes | None = None
        for i, (title, of_panel) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), i + 1, sharey=axes)
            for line in of_panel:
                handle = _draw_line(axes, line, numbers.setdefault(line.label, len(numbers)))
                handles.setdefault(line.label, handle)
            axes.set_title(_as_text(title), loc="left")
            axes.set_xlabel(_as_text(x_label))
            if log:
                axes.set_xscale("log")
            ticks = (points or {}).get(title) or sorted({x for line in of_panel for x in line.x})
            if len(ticks) <= 8:
                axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
                axes.xaxis.set_minor_locator(NullLocator())
            if shares:
                axes.set_ylim(-0.02, 1.02)
            elif axes.dataLim.y0 >= 0:
                axes.set_ylim(bottom=0)
            if i == 0:
                axes.set_ylabel(y_label)
            else:
                axes.tick_params(labelleft=False)
            axes.grid(alpha=0.35, linewidth=0.6)
        columns = min(4 if len(panels) > 1 else 3, max(1, len(handles)))
        labels = [_as_text(label) for label in handles]
        figure.legend(list(handles.values()), labels, loc="outside lower center", ncols=columns)
        return to_svg(figure)


def _as_text(title: str) -> str:
    """A title that is drawn as it is, whatever dollars it has: between two of them matplotlib sees mathematics."""
    return title.replace("$", r"\$")


def _draw_line(axes: Axes, line: Line, number: int) -> Any:
    """Draw a line with its interval.

    Returns:
        What stands for it in a legend.
    """
    colour = SERIES[number % len(SERIES)]
    if line.low is not None and line.high is not None:
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.12, linewidth=0)
    mark = MARKS[number % len(MARKS)]
    (handle,) = axes.plot(line.x, line.y, color=colour, marker=mark, markersize=5, linewidth=1.8)
    return handle


def draw_scatter(points: Mapping[str, tuple[float, float]], *, x_label: str, y_label: str) -> str:
    """Named points.

    Args:
        points: For each name x and y, both shares.
        x_label: What is on the horizontal axis.
        y_label: What is on the vertical axis.

    Returns:
        An SVG element.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.6), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        groups: list[list[str]] = []  # points that lie on each other share a label
        for name, (x, y) in sorted(points.items(), key=lambda p: p[1]):
            ours = name == "ReasonEdit"
            axes.plot(x, y, marker="*" if ours else "o", markersize=15 if ours else 8, linestyle="none",
                      color=SERIES[0] if ours else SERIES[1])  # fmt: skip
            for group in groups:
                first = points[group[0]]
                if not ours and abs(first[0] - x) < 0.04 and abs(first[1] - y) < 0.04:
                    group.append(name)
                    break
            else:
                groups.append([name])
        for group in groups:
            x, y = points[group[0]]
            right = x > 0.6
            axes.annotate(
                _as_text("\n".join(group)), (x, y), (-9 if right else 9, 0), textcoords="offset points", va="center",
                ha="right" if right else "left", fontsize=10, fontweight="bold" if "ReasonEdit" in group else "normal",
            )  # fmt: skip
        axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.03, 1.06), ylim=(-0.03, 1.08))
        axes.grid(alpha=0.35, linewidth=0.6)
        return to_svg(figure)


def draw_bars(values: Mapping[str, float], *, x_label: str, digits: int = 2) -> str:
    """Horizontal bars with their values written beside them; nothing is drawn for what is 0.

    Args:
        values: For each name its value.
        x_label: What is on the axis.
        digits: Digits after the point.

    Returns:
        An SVG element.
    """
    with rc_context(STYLE):
        figure = Figure(figsize=(5.4, 0.34 * len(values) + 0.9), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        names = list(values)[::-1]
        colours = [SERIES[0 if name == "ReasonEdit" else 1] for name in names]
        axes.barh([_as_text(name) for name in names], [values[name] for name in names], color=colours, height=0.62)
        most = max(values.values()) or 1.0
        for i, name in enumerate(names):
            axes.text(values[name], i, f"  {values[name]:.{digits}f}", va="center", fontsize=10)
        axes.set_xlim(right=most * 1.18)
        axes.set_xlabel(x_label)
        axes.tick_params(axis="y", length=0)
        return to_svg(figure)
