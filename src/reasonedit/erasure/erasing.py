"""The erasing of edits, from the plan to the last file that names them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reasonedit.codebook import EditMemory, Store, StoredEdit
from reasonedit.codebook.events import Event
from reasonedit.errors import ConflictError, InputError, UnavailableError
from reasonedit.traces import ErasedEdits, KeptQuestions, folder_of_questions
from reasonedit.validation import check_name

from .beside import clean_beside, find_copies, name_files_of_others, name_other_places, runs_around
from .note import NOTE, remove_note, write_note
from .selection import describe_erased, events_without, find_edits, known_ids

_PATIENCE = 10.0
"""Seconds to wait for whoever reads files that are to go."""

NOT_LOOKED_FOR = (
    "Nobody knows, and you have to see to it: exports, backups and codebooks migrated or pulled from this one, or "
    "saved from it into other folders; questions that were kept while it had another name; the Hub with its history; "
    "the data and probe files that the edits came from; other runs, results of experiments, reports, and pictures "
    "drawn of edits; logs of terminals, shells and servers; snapshots and backups of the disk, and its swap. Space on "
    "the disk is given back, not overwritten."
)


@dataclass(frozen=True)
class Erasure:
    """What is to be erased, or was, and what is left.

    Attributes:
        edits: The edits, without those that an interrupted erasure has already taken out of the codebook.
        here: What goes beside the codebook, in words.
        elsewhere: What may be left and where, in words.
    """

    edits: list[StoredEdit]
    here: list[str]
    elsewhere: list[str]


def plan_erasure(memory: EditMemory, ids: Sequence[str]) -> Erasure:
    """Say what :func:`erase_from` would erase; nothing is changed.

    Args:
        memory: The codebook.
        ids: The whole ids of the edits.

    Raises:
        NotFoundError: There is no such edit.
        InputError: The codebook is in no folder, or the ids are one text.
    """
    store = _store_of(memory)
    edits, _ = find_edits(memory, store.folder, ids)
    erased = describe_erased(memory, edits)
    here = []
    if edits:
        shared = {name for edit in edits for name in edit.pictures} - erased.pictures
        stay = f" ({len(shared)} more stay, which other edits have, too)" if shared else ""
        pictures = "1 picture" if len(erased.pictures) == 1 else f"{len(erased.pictures)} pictures"
        here.append(f"their text, keys and history, and {pictures}{stay}")
    copies = find_copies(store.folder, erased)
    here += [f"'{path}', as a whole" for path in copies]
    here += [
        f"in '{run}': their rows and those of their probes, their facts in other rows, of TensorBoard the "
        "pictures of queries with facts, and the page (reasonedit report makes it again); the figures stay"
        for run in runs_around(store.folder)
    ]
    return Erasure(edits, here, name_other_places(store, copies))


def erasable_ids(memory: EditMemory) -> set[str]:
    """The ids that :func:`erase_from` takes: of the edits that are there, lost or being erased.

    Raises:
        InputError: The codebook is in no folder.
    """
    return known_ids(memory, _store_of(memory).folder)


def erase(folder: str | os.PathLike[str], ids: Sequence[str], author: str = "") -> Erasure:
    """Erase edits of the codebook in a folder; see :func:`erase_from`.

    Raises:
        ReasonEditError: As for :func:`erase_from`; or there is no codebook, or it is damaged.
    """
    return erase_from(EditMemory.open(Store.open(folder)), ids, author)


def erase_from(memory: EditMemory, ids: Sequence[str], author: str = "") -> Erasure:
    """Erase edits for good: their text, keys, pictures and history, in the codebook and in what lies beside it.

    All other edits answer as if these had never been. The journal keeps how many edits were erased, when and by whom,
    but not which. Their ids may be used again. A picture stays where another edit has it, too.

    Beside the codebook go damaged copies of it that hold any of the edits (as a whole), questions that a server kept
    about their pictures or answered by their facts, the edits' sentences in the cache of evidence, and, where the
    folder lies in that of a run, what the run wrote of them: rows of its log and of its predictions, pictures for
    TensorBoard, the story of a demo, its page with what that shows of them. The result says what may be left elsewhere.

    Killed at any moment, the edits are erased or not. Another call with the same ids finishes the rest.

    Args:
        memory: The codebook, kept in a folder.
        ids: The whole ids of the edits, undone ones too.
        author: Who erases them.

    Raises:
        NotFoundError: There is no such edit.
        InputError: The codebook is in no folder, or the ids are one text.
        LockedError: Somebody else writes.
        UnavailableError: A file cannot be written: then nothing is erased of the codebook. Or somebody reads the
            codebook all the time: then the edits are erased, but files that held them are still there. In both cases
            the same call again does the rest.
    """
    author, store = check_name(author or "", "author"), _store_of(memory)
    with store.writing():
        memory.refresh()
        edits, unfinished = find_edits(memory, store.folder, ids)
        erased = describe_erased(memory, edits)
        here = _take_out(memory, store, erased, unfinished, author)
        _remove_rest(memory, store)
        return Erasure(edits, here, [*name_other_places(store), *name_files_of_others(store.folder, erased)])


def _store_of(memory: EditMemory) -> Store:
    if memory.store is None:
        raise InputError("The codebook is only in memory: nothing of it is on the disk, and 'undo' takes an edit out.")
    return memory.store


def _take_out(
    memory: EditMemory, store: Store, erased: ErasedEdits, unfinished: Collection[str], author: str
) -> list[str]:
    """Take edits out of what lies beside the codebook, then out of the codebook.

    Args:
        memory: The codebook.
        store: Its folder.
        erased: What is erased.
        unfinished: Ids of an interrupted erasure.
        author: Who erases.

    Returns:
        What was cleaned beside the codebook, in words.
    """

    def choose(events: list[Event]) -> list[Event]:
        if memory.store is not store:
            raise ConflictError("The codebook was saved elsewhere meanwhile: nothing is erased, call this again.")
        return events_without(events, erased.ids, author)

    try:
        write_note(store.folder, {*unfinished, *erased.ids})
        try:
            here = clean_beside(store.folder, erased)
        except BaseException:  # nothing of the codebook itself is touched yet
            write_note(store.folder, unfinished)
            raise
        if any(event.edit_id in erased.ids for event in memory.events):
            memory.rewrite(choose)
            KeptQuestions(folder_of_questions(store.folder)).forget(erased)  # those that were answered meanwhile
    except OSError as error:
        raise UnavailableError(
            f"'{error.filename or store.folder}' cannot be written ({error.strerror or error}): no edit is erased "
            "yet; see to it, and run the same again."
        ) from error
    return here


def _remove_rest(memory: EditMemory, store: Store) -> None:
    """Remove the files that held the edits, and last the note that names them."""
    memory.settle(join=True)
    leftovers = store.tidy(_PATIENCE)
    if leftovers:
        raise UnavailableError(
            f"The edits are erased, but {len(leftovers)} files that held them are still there, since somebody reads "
            f"the codebook in '{store.folder}': run the same again when that is done."
        )
    try:
        remove_note(store.folder)
    except OSError as error:
        raise UnavailableError(
            f"The edits are erased, but '{store.folder / NOTE}', which names them, cannot be removed "
            f"({error.strerror or error}): see to it, and run the same again."
        ) from error
