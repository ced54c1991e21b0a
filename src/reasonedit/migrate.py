"""Migration of a codebook to another VLM: its edits are embedded anew, with the evidence that was found or given."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from reasonedit.asked import CurrentStatistics
from reasonedit.boxes import Box
from reasonedit.calibration import Calibration
from reasonedit.codebook import Draft, EditMemory, Store, StoredEdit, as_edit, check_fingerprint
from reasonedit.codebook.disk.errors import DamagedError, write_error
from reasonedit.codebook.disk.files import sync
from reasonedit.codebook.disk.lock import LOCK_FILES
from reasonedit.codebook.events import Event
from reasonedit.design import Design
from reasonedit.embedding import statistics_of
from reasonedit.errors import ConflictError, InputError, MismatchError
from reasonedit.keys import evidence_of, is_guess
from reasonedit.pipeline import EditingPipeline
from reasonedit.types import Edit
from reasonedit.vlm import VLM


def migrate_codebook(
    memory: EditMemory,
    vlm: VLM,
    folder: str | os.PathLike[str],
    design: Design,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> EditMemory:
    """Write a codebook into a new folder for another VLM: its edits, undone ones too, with their history.

    It is written under a hidden name beside the new folder and renamed once it is whole. A call that was interrupted
    is continued by the same call. Evidence that was found is taken over where the codebook's design sought it as the
    new one would; else it is sought anew. A calibration is taken over where it was made for the same VLM and layer.

    Args:
        memory: The codebook.
        vlm: The VLM.
        folder: The new folder. Where it already holds the migrated codebook, nothing is done.
        design: How edits are embedded and written there.
        done: Told after each edit how many are done, and of how many.

    Returns:
        The new codebook.

    Raises:
        InputError: The new folder is that of the codebook.
        ConflictError: The new folder holds something else, or what was interrupted was of other edits, for another VLM
            or by another design.
        NotFoundError: A picture is missing.
        UnavailableError: The new folder cannot be written.
    """
    target = Path(folder).absolute()
    if memory.store is not None and target.exists() and os.path.samefile(target, memory.store.folder):
        raise InputError(f"'{folder}' is the codebook itself: name a new folder, so that nothing is lost.")
    pipeline, part = _begin(memory, vlm, design), target.with_name(f".{target.name}.migrating")
    if Store.exists(target):
        return _open_finished(target, pipeline, memory)
    if target.exists() and any(target.iterdir()):
        raise ConflictError(f"'{target}' is not empty: name a new folder.")
    if Store.exists(part):
        pipeline.memory = _open_unfinished(part, pipeline, memory)
        pipeline.statistics.take_in(pipeline.memory)  # those of the keys that are there
    else:
        pipeline.memory.copy_to(pipeline.begin_store(part))
    store = pipeline.memory.store
    assert store is not None
    with store.writing():
        _embed(memory, pipeline, done)
        new = {e.edit_id: e for e in pipeline.memory.events if e.edit is not None}
        # Edits were undone and restored at their old times, not now.
        pipeline.memory.rewrite(lambda _: [new[e.edit_id] if e.edit is not None else e for e in memory.events])
        pipeline.memory.settle()
        try:
            if target.exists():
                target.rmdir()
            part.rename(target)
            (target / LOCK_FILES[1]).unlink(missing_ok=True)
            sync(target.parent)
        except OSError as error:
            raise write_error(target, error) from error
    return EditMemory.open(Store.open(target))


def _begin(memory: EditMemory, vlm: VLM, design: Design) -> EditingPipeline:
    """What embeds the edits; by the codebook's calibration, if it has one that holds for the VLM and the design."""
    pipeline = EditingPipeline(vlm, design)
    former = CurrentStatistics(pipeline.embedder)
    # It may be of another layer or VLM, or not readable any more, or no pictures may be embedded at all.
    with suppress(MismatchError, InputError, DamagedError):
        former.note(memory.store)
        if memory.store is not None and former.record is not None:
            statistics = statistics_of(memory.store.statistics())
            if statistics is not None:
                pipeline.statistics.use(Calibration(statistics, former.record))
    return pipeline


def _embed(memory: EditMemory, pipeline: EditingPipeline, done: Callable[[int, int], None]) -> None:
    """Repeat the events that the new codebook does not have yet."""
    takes_over = _evidence_to_take_over(memory, pipeline.design)
    events, count = _events_of_edits(memory), len(_events_of_edits(pipeline.memory))
    edits, number = sum(e.edit is not None for e in events), sum(e.edit is not None for e in events[:count])
    remaining = deque(events[count:])
    while remaining:
        event = remaining.popleft()
        if event.edit is None:
            (pipeline.memory.undo if event.op == "undo" else pipeline.memory.restore)(event.edit_id, event.author)
            continue
        stored = event.edit
        edit = as_edit(stored, {name: memory.picture(name) for name in stored.pictures})
        draft = pipeline.embed_anew(edit, stored) if takes_over(stored) else pipeline.draft(edit)[0]
        if remaining and _replaces(event, remaining[0]):
            pipeline.memory.replace(remaining.popleft().edit_id, draft)
        else:
            pipeline.memory.add([draft])
        number += 1
        done(number, edits)


def _replaces(event: Event, following: Event) -> bool:
    """Whether an edit and the undo that follows it are of one step, in which it took the place of another.

    Nothing else tells this from an undo by the same author later. Of an edit that contradicts the other one it was no
    replacement, as that would not contradict it.
    """
    is_undo = event.edit is not None and following.op == "undo" and following.author == event.author
    return is_undo and event.edit is not None and following.edit_id not in (event.edit_id, *event.edit.contradicts)


def _evidence_to_take_over(memory: EditMemory, design: Design) -> Callable[[StoredEdit], bool]:
    """Tells of which edits the stored evidence is what a design would seek for them.

    Format 3 kept none. A design with a setting that is gone does not say how it was sought: what was found is kept.
    """
    if not design.writing.seeks_evidence:
        return lambda stored: bool(stored.found)
    try:
        old = Design.from_dict(memory.store.manifest.design) if memory.store is not None else None
    except InputError:
        old = None
    if old is None:
        return lambda stored: any(stored.found)
    was_sought = old.writing.seeks_evidence and old.evidence.in_use == design.evidence.in_use
    return lambda stored: was_sought and bool(stored.found)


def _open_finished(folder: Path, pipeline: EditingPipeline, memory: EditMemory) -> EditMemory:
    """Open the migrated codebook.

    Raises:
        ConflictError: The folder holds another one.
    """
    store = Store.open(folder)
    check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, folder)
    migrated = EditMemory.open(store)
    difference = _difference(migrated, pipeline, memory)
    if difference:
        raise ConflictError(
            f"'{folder}' holds what was migrated of another codebook or by another design ({difference}): name another "
            "folder."
        )
    if len(_events_of_edits(migrated)) == len(_events_of_edits(memory)):
        return migrated
    raise ConflictError(f"There is a codebook in '{folder}' already, of an earlier time: name another folder.")


def _open_unfinished(part: Path, pipeline: EditingPipeline, memory: EditMemory) -> EditMemory:
    """Open what an interrupted migration has written.

    Raises:
        ConflictError: It was of other edits, for another VLM or by another design.
    """
    store = Store.open(part)
    migrated = EditMemory.open(store)
    try:
        check_fingerprint(store.manifest.fingerprint, pipeline.embedder.fingerprint, part)
        difference = _difference(migrated, pipeline, memory)
    except MismatchError:
        difference = "another model or embedding"
    if difference:
        raise ConflictError(
            f"'{part}' is an unfinished migration that does not go with this one ({difference}): remove that folder to "
            "begin anew, or name another one for this."
        )
    return migrated


def _difference(migrated: EditMemory, pipeline: EditingPipeline, memory: EditMemory) -> str:
    """Where what was migrated is not the beginning of what is to be migrated, in words; nothing where it is."""
    assert migrated.store is not None
    there, here = Design.from_dict(migrated.store.manifest.design).to_dict(), pipeline.design.to_dict()
    for part in ("evidence", "writing", "retrieval"):  # the fingerprint says how keys are embedded
        for name, value in there[part].items():
            if value != here[part][name]:
                return f"{part}.{name} is {value!r} there and {here[part][name]!r} here"
    new, old = _events_of_edits(migrated), _events_of_edits(memory)
    if len(new) > len(old):
        return "there is more in it"
    takes_over = _evidence_to_take_over(memory, pipeline.design)
    for one, other in zip(new, old, strict=False):
        if (one.op, one.edit_id, one.author) != (other.op, other.edit_id, other.author):
            return f"what happened to the edit '{one.edit_id}' there did not happen here, or later"
        if one.edit is not None and other.edit is not None:
            same = _content_of(one.edit) == _content_of(other.edit)
            same &= other.edit.time in ("", one.edit.time)  # format 3 kept no times
            same &= not takes_over(other.edit) or _found_in(one.edit) == _found_in(other.edit)
            if not same:
                return f"the edit '{one.edit_id}' is another one there"
    return ""


def _content_of(edit: StoredEdit) -> StoredEdit:
    """An edit as it is compared: without its time and what is found for it; texts as this version tidies them."""
    return replace(
        edit,
        question=edit.question.strip(),
        answer=edit.answer.strip(),
        reasoning=[sentence.strip() for sentence in edit.reasoning if sentence.strip()],
        choices=[choice.strip() for choice in edit.choices or ()] or None,
        answers=[answer.strip() for answer in edit.answers],
        given=edit.given if any(edit.given) else [],
        found=[],
        guessed=[],
        time="",
        version="",
        contradicts=[],
    )


def _found_in(stored: StoredEdit) -> list[tuple[list[Box], bool]]:
    return [(evidence.boxes, is_guess(evidence)) for evidence in evidence_of(stored)]


def _events_of_edits(memory: EditMemory) -> list[Event]:
    """What happened, without the erasing of edits that are not there any more.

    Nor does an undo or a restore count that changed nothing: after a repair the one between two may be lost.
    """
    counts, events = dict[str, bool](), list[Event]()
    for event in memory.events:
        if event.op != "erase" and counts.get(event.edit_id) is not (event.op != "undo"):
            counts[event.edit_id] = event.op != "undo"
            events.append(event)
    return events


def open_embed(vlm: VLM) -> Callable[[EditMemory], Callable[[Edit, StoredEdit], Draft]]:
    """What embeds the edits of a codebook anew, for :func:`reasonedit.codebook.repair.repair`.

    Args:
        vlm: The VLM that the codebook was made with; another one raises a ``ReasonEditError`` when it is called.
    """

    def open_pipeline(memory: EditMemory) -> Callable[[Edit, StoredEdit], Draft]:
        assert memory.store is not None
        pipeline = EditingPipeline.open(memory.store, vlm, memory)
        pipeline.statistics.keep(memory)
        return pipeline.embed_anew

    return open_pipeline
