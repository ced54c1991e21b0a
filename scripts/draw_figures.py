"""Draw the figures of the page on the method, each for light and for dark pages.

Two of them show how an edit is written and how a question gets its facts. The third is measured: where the embedded VLM
sees a sentence in a sample picture. Run it after changing the method: ``python scripts/draw_figures.py``.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from PIL import Image

from reasonedit.data import sample_picture

FOLDER = Path(__file__).parents[1] / "src" / "reasonedit" / "docs" / "figures"
QUESTION, ANSWER = "Where is the green object kept?", "the locked cabinet"
SENTENCES = ["The green object is a bottle.", "In this clinic the bottle is kept in the locked cabinet."]

THEMES = {
    "light": {"ink": "#1f2328", "faint": "#59636e", "box": "#f4f6f8", "line": "#8c959f", "accent": "#0b63c4"},
    "dark": {"ink": "#e6e8eb", "faint": "#a3abb5", "box": "#23272e", "line": "#7d8590", "accent": "#6cb2ff"},
}


@dataclass
class Drawing:
    """An SVG picture that grows downwards."""

    theme: dict[str, str]
    width: int = 570
    height: int = 0
    parts: list[str] = field(default_factory=list)

    def text(self, x: float, y: float, text: str, *, size: int = 15, ink: str = "ink", bold: bool = False) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x}" y="{y}" font-size="{size}" fill="{self.theme[ink]}"{weight}>{escape(text)}</text>'
        )

    def box(self, top: int, title: str, lines: Sequence[str], *, accent: bool = False, left: int = 10) -> int:
        """A box with a title and lines of text; returns where it ends."""
        height = 36 + 21 * len(lines)
        line = self.theme["accent" if accent else "line"]
        self.parts.append(
            f'<rect x="{left}" y="{top}" width="{self.width - left - 10}" height="{height}" rx="8" '
            f'fill="{self.theme["box"]}" stroke="{line}" stroke-width="{2 if accent else 1}"/>'
        )
        self.text(left + 14, top + 24, title, bold=True, ink="accent" if accent else "ink")
        for number, text in enumerate(lines):
            self.text(left + 14, top + 46 + 21 * number, text)
        self.height = max(self.height, top + height)
        return top + height

    def arrow(self, top: int, note: str = "") -> int:
        """An arrow to what comes below; returns where that begins."""
        end = top + (40 if note else 26)
        self.parts.append(
            f'<path d="M 40 {top + 3} V {end - 4} m -5 -7 l 5 7 l 5 -7" fill="none" stroke="{self.theme["faint"]}" '
            'stroke-width="1.5"/>'
        )
        if note:
            self.text(58, top + 25, note, size=14, ink="faint")
        return end

    def picture(self, x: int, y: int, size: int, image: Image.Image, frames: Sequence[tuple[float, ...]] = ()) -> None:
        """A picture, with frames given as shares of its sides."""
        data = io.BytesIO()
        image.save(data, "PNG", optimize=True)
        address = base64.b64encode(data.getvalue()).decode()
        self.parts.append(
            f'<image x="{x}" y="{y}" width="{size}" height="{size}" href="data:image/png;base64,{address}"/>'
        )
        for left, top, right, bottom in frames:
            self.parts.append(
                f'<rect x="{x + left * size:.1f}" y="{y + top * size:.1f}" width="{(right - left) * size:.1f}" '
                f'height="{(bottom - top) * size:.1f}" fill="none" stroke="#d1242f" stroke-width="2.5"/>'
            )
        self.height = max(self.height, y + size)

    def svg(self, title: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width} {self.height + 10}" '
            f'width="{self.width}" role="img" font-family="system-ui, \'Segoe UI\', Roboto, \'Liberation Sans\', sans-serif">'
            f"<title>{escape(title)}</title>{''.join(self.parts)}</svg>\n"
        )


def draw_edit(theme: dict[str, str]) -> str:
    """How an edit is written."""
    drawing = Drawing(theme)
    image = Image.open(sample_picture("clinic-1"))
    drawing.picture(10, 10, 150, image)
    drawing.text(176, 34, "A person sees a wrong answer", bold=True)
    drawing.text(176, 58, QUESTION)
    drawing.text(176, 82, "The model says: hospital", ink="faint")
    drawing.text(176, 114, f"Right: {ANSWER}", ink="accent", bold=True)
    drawing.text(176, 138, "and why, one fact per sentence")
    at = drawing.arrow(166)
    at = drawing.arrow(
        drawing.box(at, "Sentences", SENTENCES), "where does the picture show it? A box, or the VLM's own yes"
    )
    at = drawing.arrow(
        drawing.box(at, "Evidence: one window of the picture per sentence", []), "the frozen VLM and a sentence encoder"
    )
    at = drawing.arrow(
        drawing.box(
            at,
            "Key  E = [ v ; w · s ]",
            [
                "v: what the VLM sees in the window",
                "s: what the sentence, or question, says",
                "w: how much the text counts beside the picture",
            ],
        )
    )
    drawing.box(
        at, "Codebook: keys with their facts, radius, author, time", ["No weight of the model changes."], accent=True
    )
    return drawing.svg("How an edit is written")


def draw_question(theme: dict[str, str]) -> str:
    """How a question gets its facts."""
    drawing = Drawing(theme)
    drawing.picture(10, 10, 150, Image.open(sample_picture("clinic-2")))
    drawing.text(176, 34, "Another picture, another question", bold=True)
    drawing.text(176, 58, "Where is the purple object kept?")
    at = drawing.arrow(166)
    at = drawing.arrow(
        drawing.box(at, "Nine overlapping regions, each with the question", ["embedded as the keys were"]),
        "nearest keys of the codebook",
    )
    at = drawing.arrow(
        drawing.box(
            at,
            "Which facts count",
            [
                "gate: is the key near enough for this codebook?",
                "visual match: nearer than unrelated pictures come?",
                "a close call: does the VLM affirm the sentence?",
                "chain: is a fact without a picture linked to one that counts?",
            ],
        ),
        "five facts at most; where none counts, nothing is added",
    )
    at = drawing.arrow(
        drawing.box(
            at,
            "Prompt",
            [
                "The green object is a bottle. In this clinic the bottle is kept in",
                "the locked cabinet. Where is the purple object kept?",
            ],
        ),
        "the frozen VLM",
    )
    drawing.box(at, "Answer: locked cabinet", ["Without a fact the answer is the unedited model's."], accent=True)
    return drawing.svg("How a question gets its facts")


def draw_evidence() -> Callable[[dict[str, str]], str]:
    """Where the embedded VLM sees the first sentence: its yes for each window."""
    from reasonedit import Edit, ReasonEditor

    image = Image.open(sample_picture("clinic-1")).convert("RGB")
    editor = ReasonEditor.from_pretrained("embedded")
    (evidence, *_) = editor.write(Edit.of(image, QUESTION, ANSWER, SENTENCES)).evidence
    windows = [(window.box, window.p_yes) for window in evidence.windows]

    def draw(theme: dict[str, str]) -> str:
        drawing = Drawing(theme)
        drawing.picture(10, 10, 240, image, [tuple(box) for box in evidence.boxes])
        for (left, top, _, _), p_yes in windows:
            drawing.parts.append(
                f'<text x="{10 + left * 240 + 40:.0f}" y="{10 + top * 240 + 46:.0f}" font-size="15" font-weight="600" '
                f'text-anchor="middle" stroke="#fff" stroke-width="4" paint-order="stroke" fill="#1f2328">{p_yes:.2f}</text>'
            )
        drawing.text(268, 34, "Does the image show", bold=True)
        drawing.text(268, 58, f"{SENTENCES[0][:-1].lower()}?", bold=True)
        drawing.text(268, 92, "Each ninth of the picture is asked:")
        drawing.text(268, 114, "the number is the VLM's P(yes).")
        drawing.text(268, 148, "Framed: the window that is kept.")
        return drawing.svg("Where the embedded VLM sees a sentence")

    return draw


def main() -> None:
    """Write each figure twice."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    figures = {"edit": draw_edit, "question": draw_question, "evidence": draw_evidence()}
    for name, draw in figures.items():
        for theme, colours in THEMES.items():
            (FOLDER / f"{name}-{theme}.svg").write_text(draw(colours), encoding="utf-8")


if __name__ == "__main__":
    main()
