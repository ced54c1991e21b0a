"""Pages of results, to be opened offline: of one run, or of experiments."""

from .page import write_page
from .run_page import write_run_page

__all__ = ["write_page", "write_run_page"]
