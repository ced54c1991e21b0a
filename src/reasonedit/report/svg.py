"""A drawing of matplotlib as SVG that takes its colours from the page: light or dark, on a screen or on paper."""

from __future__ import annotations

import io
import re
import zlib
from typing import Any

from matplotlib.figure import Figure

_INK, _FAINT = "#010203", "#010204"  # stand for what the page says
SERIES = tuple(f"#0102{i:02x}" for i in range(0x10, 0x18))
"""Colours of lines and points, each of which the page replaces by its own."""
MARKS = "osD^vPX*"
STYLE: Any = {
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


def to_svg(figure: Figure) -> str:
    """The SVG element of a figure."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for i, colour in enumerate(SERIES):
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
