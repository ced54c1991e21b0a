"""Correct a frozen vision-language model with human reasoning."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .data.stream import EditStream
    from .design import Design
    from .editor import ReasonEditor
    from .embedding import EmbeddingConfig
    from .errors import ReasonEditError
    from .module import VLMModule
    from .types import Answer, Edit, Hit, Query

    __version__: str

# Imported when first used: torch and Lightning take seconds, and not every use needs them.
_HOMES = {
    "Answer": "types",
    "Design": "design",
    "Edit": "types",
    "EditStream": "data.stream",
    "EmbeddingConfig": "embedding",
    "Hit": "types",
    "Query": "types",
    "ReasonEditError": "errors",
    "ReasonEditor": "editor",
    "VLMModule": "module",
}

__all__ = [
    "Answer",
    "Design",
    "Edit",
    "EditStream",
    "EmbeddingConfig",
    "Hit",
    "Query",
    "ReasonEditError",
    "ReasonEditor",
    "VLMModule",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("reasonedit")
    if name in _HOMES:
        return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
