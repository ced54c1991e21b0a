"""What edits leave behind outside of their codebook: in the folder of the run that wrote it, and in the cache."""

from .caches import find_cached_replies, find_same_codebook, forget_evidence
from .erased_edits import ERASED, ErasedEdits, remove
from .kept_questions import KeptQuestions, folder_of_questions
from .runs import clean_run, file_holds, is_run
from .shown import PAGE, read_picture, read_shown, write_shown

__all__ = [
    "ERASED",
    "PAGE",
    "ErasedEdits",
    "KeptQuestions",
    "clean_run",
    "file_holds",
    "find_cached_replies",
    "find_same_codebook",
    "folder_of_questions",
    "forget_evidence",
    "is_run",
    "read_picture",
    "read_shown",
    "remove",
    "write_shown",
]
