"""``reasonedit app``: a page in the browser on which a person asks a VLM and corrects it."""

from __future__ import annotations

import threading
import webbrowser
from collections.abc import Sequence
from pathlib import Path

from . import serve
from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True, stderr=True)
_KEPT = 1000
"""How many questions are kept for a review, unless said otherwise."""


def main(argv: Sequence[str]) -> int:
    """Serve the page on this machine, open it, and go on until it is asked to end."""
    parser = serve.parser(Path("codebook"), _KEPT)
    parser.prog, parser.description = "reasonedit app", "Ask a VLM and correct it, on a page in the browser."
    parser.set_defaults(port=0)
    parser.add_argument("--no-browser", action="store_true", help="only print the page's address")
    arguments = parser.parse_args(argv)

    def show(url: str) -> None:
        _console.say(f"The page: {url} (corrections are kept in '{arguments.codebook}'; Ctrl-C ends it)")
        if not arguments.no_browser:
            # Beside the server, which must answer while a browser starts.
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    from .serving import run

    return run(arguments, show)
