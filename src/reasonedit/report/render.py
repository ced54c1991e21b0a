"""From a template to a page: one look for all of them, in one file that opens offline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from reasonedit.codebook.disk.files import write_atomically
from reasonedit.drawings import COLOURS
from reasonedit.errors import UnavailableError
from reasonedit.experiments.gallery import CAUSES
from reasonedit.groups import LABELS
from reasonedit.metrics import COMPARISON


def render(template: str, out: Path, **values: Any) -> Path:
    """Write a page.

    Args:
        template: The name of its template.
        out: The HTML file.
        **values: What the template asks for.

    Returns:
        The file.

    Raises:
        UnavailableError: It cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("reasonedit.report", "."),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["share"] = format_share
    environment.filters["bound"] = lambda share: {"1.000": "1", ".000": "0"}.get(text := format_share(share), text)
    environment.globals.update(
        style=(Path(__file__).parent / "page.css").read_text(encoding="utf-8"),
        colours=COLOURS,
        groups=LABELS,
        causes=CAUSES,
        comparison=COMPARISON,
    )
    page = environment.get_template(template).render(**values)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with write_atomically(out) as file:
            file.write(page.encode("utf-8", "replace"))
    except OSError as error:
        raise UnavailableError(f"The report cannot be written to '{out}' ({error.strerror}): name another.") from error
    return out


def format_share(share: float | None) -> str:
    """A share in three digits without the zero before the point; a dash where there is none."""
    return "–" if share is None else f"{share:.3f}".replace("0.", ".", 1)
