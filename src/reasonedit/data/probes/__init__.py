"""Probe builders: what asks whether an edit generalises, made by language models and painted by diffusion models."""

from .build import Budget, Builder, Draft, Report, build
from .coe import CoEProbes
from .image import ImageProbes
from .painter import Painter
from .rationale import RationaleProbes
from .text import TextProbes
from .writer import LocalWriter, OpenAIWriter, Writer, writer_of

__all__ = [
    "Budget",
    "Builder",
    "CoEProbes",
    "Draft",
    "ImageProbes",
    "LocalWriter",
    "OpenAIWriter",
    "Painter",
    "RationaleProbes",
    "Report",
    "TextProbes",
    "Writer",
    "build",
    "writer_of",
]
