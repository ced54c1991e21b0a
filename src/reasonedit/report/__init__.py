"""One page of the results of experiments, to be opened offline."""

from .page import write_page

__all__ = ["write_page"]
