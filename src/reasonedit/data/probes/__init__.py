"""Builders of the probes that ask whether an edit generalises: language models write, diffusion models paint them."""

from .build import BuildReport, build
from .builder import Budget, Builder, ProbeDraft, builders
from .coe import CoEProbes
from .image import ImageProbes
from .local_writer import LocalWriter
from .openai_writer import OpenAIWriter
from .painter import Painter
from .rationale import RationaleProbes
from .text import TextProbes
from .writer import Writer, load_writer

__all__ = [
    "Budget",
    "BuildReport",
    "Builder",
    "CoEProbes",
    "ImageProbes",
    "LocalWriter",
    "OpenAIWriter",
    "Painter",
    "ProbeDraft",
    "RationaleProbes",
    "TextProbes",
    "Writer",
    "build",
    "builders",
    "load_writer",
]
