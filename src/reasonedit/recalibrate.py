"""A codebook that is calibrated anew: its keys are made again by other statistics, from the evidence that was found."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import zip_longest

from reasonedit.calibration import Calibration
from reasonedit.codebook import EditMemory, Entry, StoredEdit, as_edit
from reasonedit.embedding import tensors_of
from reasonedit.errors import NotFoundError
from reasonedit.kinds import KeyKind
from reasonedit.pipeline import EditingPipeline

_Made = tuple[StoredEdit, Sequence[Entry]]
"""An edit, and what it writes by the new statistics."""


def recalibrate(
    pipeline: EditingPipeline,
    calibration: Calibration,
    done: Callable[[int, int], None] = lambda _done, _all: None,
    wanted: Callable[[], bool] = lambda: True,
) -> int | None:
    """Embed by another calibration from now on, the keys that are there included.

    Keys that no picture went into stay as they are. Questions that are asked meanwhile are answered by the old keys,
    until all new ones are there; the step from one to the other is a single one, in memory and on the disk. So it is
    for other processes that read the folder.

    Args:
        pipeline: What works on the codebook.
        calibration: The calibration.
        done: Told after each edit how many are embedded anew, and of how many.
        wanted: Asked once all edits are embedded and nobody else can change the codebook, whether it is to be done.

    Returns:
        How many edits were embedded anew; ``None`` if it was not wanted any more, and nothing has changed.

    Raises:
        MismatchError: The calibration was made for another VLM or setting.
        NotFoundError: The picture of an edit, or of its evidence, is missing; nothing has changed.
        ReasonEditError: The folder cannot be written; nothing has changed.
    """
    calibration.record.check(pipeline.embedder)
    memory = pipeline.memory
    memory.refresh()
    anew = EditingPipeline(
        pipeline.vlm,
        pipeline.own,
        EditMemory(pipeline.own.writing.merge),
        pipeline.embedder.encoder,
        calibration=calibration,
    )
    made: dict[str, _Made] = {}
    _embed(pipeline, anew, made, done)
    with memory.changing():
        if not wanted():
            return None
        _embed(pipeline, anew, made, done)  # what others wrote meanwhile
        there = {**memory.edits, **memory.undone}
        new = {name: entries for name, (edit, entries) in made.items() if there.get(name) == edit}
        memory.replace_keys(new, tensors_of(calibration.statistics), anew.settings)
        pipeline.statistics.use(calibration)
        pipeline.statistics.note(memory.store)
    return len(new)


def _embed(
    pipeline: EditingPipeline, anew: EditingPipeline, made: dict[str, _Made], done: Callable[[int, int], None]
) -> None:
    """Add to ``made`` what edits write whose keys change with the statistics, if they are not among them yet."""
    memory = pipeline.memory
    with memory.guard:  # of an id another edit may have come meanwhile, where one was erased
        edits = [e for e in {**memory.edits, **memory.undone}.values() if e.id not in made or made[e.id][0] != e]
        kinds = {e.id: {entry.fact.kind for entry in memory.entries_of(e.id)} for e in edits}
    if not edits:  # so statistics that nothing was made by are not measured for their width
        return
    all_depend = anew.embedder.reads_language or anew.embedder.width != pipeline.embedder.width
    depending = [e for e in edits if (kinds[e.id] if all_depend else kinds[e.id] - {KeyKind.TEXT})]
    for number, edit in enumerate(depending, 1):
        memory.refresh()
        if edit.id in memory.edits or edit.id in memory.undone:  # else it was erased meanwhile
            _refuse_lost(edit, memory)
            given = as_edit(edit, {name: memory.picture(name) for name in edit.pictures})
            made[edit.id] = edit, anew.embed_anew(given, edit).entries
        done(number, len(depending))


def _refuse_lost(edit: StoredEdit, memory: EditMemory) -> None:
    """Refuse an edit that has a key of a picture that is lost: a key of the sentence alone would take its place."""
    shown = {entry.fact.text for entry in memory.entries_of(edit.id) if entry.fact.kind is KeyKind.GIVEN}
    regions = zip_longest(edit.reasoning, edit.given, edit.found)
    for sentence in sorted(shown - {sentence for sentence, given, found in regions if given or found}):
        raise NotFoundError(
            f"The picture that shows '{sentence}' in the edit '{edit.id}' is not in the codebook any more, so its key "
            "cannot be made anew: erase the edit, and write it again with the picture."
        )
