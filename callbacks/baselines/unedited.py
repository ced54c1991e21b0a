"""No editor at all: the row that the others are compared with."""

from __future__ import annotations

from typing import Any

import lightning as L

from reasonedit.types import Edit

from ..editor import Editor


class Unedited(Editor):
    """Sees the edits of a stream and does nothing about them."""

    title = "none"

    def write(self, edit: Edit, row: int, batch: dict[str, Any], pl_module: L.LightningModule) -> None:
        """Let the mistake be."""
