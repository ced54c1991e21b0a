"""The page at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import lightning as L

from reasonedit.codebook import EditMemory, Store
from reasonedit.data.stream import EditStream
from reasonedit.errors import ReasonEditError
from reasonedit.runs.shown import keep_shown
from reasonedit.traces import PAGE

CODEBOOK = "codebook"


@contextmanager
def keeping_erasures_out(folder: Path) -> Iterator[None]:
    """Keep edits from being erased while the page of a run is written, so that it does not show them afterwards.

    Raises:
        ReasonEditError: Somebody else writes into the codebook.
    """
    path = folder / CODEBOOK
    try:
        store = Store.open(path) if Store.exists(path) else None
    except ReasonEditError:  # of a damaged codebook nothing is erased
        store = None
    with store.writing() if store is not None and not store.read_only else nullcontext():
        yield


def make_page(folder: Path, data: L.LightningDataModule | None, memory: EditMemory | None) -> tuple[Path | None, str]:
    """Keep what the page of a finished run shows, and write the page.

    Nobody erases an edit meanwhile. A run whose page cannot be written is no less finished.

    Args:
        folder: The results folder.
        data: What the run was about.
        memory: Its codebook.

    Returns:
        The page; or ``None``, and why there is none.
    """
    from reasonedit.report import write_run_page
    from reasonedit.report.run_data import read_predictions

    store = memory.store if memory is not None else None
    try:
        with store.writing() if store is not None and not store.read_only else nullcontext():
            if isinstance(data, EditStream) and data.base is not None:
                stored = memory.edits if memory is not None else None
                keep_shown(folder, data.base, read_predictions(folder), stored)
            return write_run_page(folder, folder / PAGE), ""
    except ReasonEditError as error:
        return None, f"There is no page: {error}"
