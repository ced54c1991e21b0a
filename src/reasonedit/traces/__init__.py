"""What edits leave behind outside of their codebook: in the folder of the run that wrote it, and in the cache."""

from .caches import copies_of, forget_evidence, replies_kept
from .gone import ERASED, Gone, remove
from .runs import clean_run, holds, is_run

__all__ = ["ERASED", "Gone", "clean_run", "copies_of", "forget_evidence", "holds", "is_run", "remove", "replies_kept"]
