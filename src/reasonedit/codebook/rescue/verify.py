"""What a codebook's folder holds: of every record and edit whether it is whole, counts, was undone or is lost."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from reasonedit.errors import ReasonEditError

from ..disk import snapshot, writing
from ..disk.checksums import Checksums
from ..disk.errors import DamagedError
from ..disk.files import is_there, read_content
from ..disk.layout import JOURNAL, KEYS, parse_name
from ..disk.manifest import MANIFEST, Manifest
from ..disk.store import Store
from ..disk.tensors import digest_of, load_tensors
from ..events import Event
from ..memory import EditMemory
from ..records import StoredEdit
from .findings import Found, FoundEdit
from .history import Counted, Gap, History
from .keyfiles import KeyFile, first_proven
from .mend import mend_manifest
from .salvage import Piece, salvage_journal
from .tracing import trace_history

_TRIES = 3
_MADE_WITH = ("id", "fingerprint", "statistics", "statistics_digest")
"""What the journal's first record and the manifest must say alike."""
_JOURNAL_MOST = 1 << 34
"""Bytes."""


def verify(folder: str | os.PathLike[str]) -> Found:
    """Read everything in a codebook's folder and say what is damaged; nothing is changed.

    Raises:
        ReasonEditError: The folder holds no codebook at all, or one of a format that is not read here.
        UnreadableError: A file must not be read, which says nothing of whether it is damaged.
    """
    there = Path(folder)
    for _ in range(_TRIES):  # somebody may write meanwhile
        with snapshot.reading(there):
            stamp = _stamp(there)
            found = _Reading(there).found
        if not found.damages or stamp == _stamp(there):
            break
    return found


def _stamp(there: Path) -> object:
    try:
        found = (there / MANIFEST).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


class _Reading:
    """Reads a folder part by part."""

    def __init__(self, there: Path) -> None:
        self.there, self.found = there, Found()
        self.manifest = self._manifest()
        journal = self._journal_file()
        pieces = self._pieces(journal)
        history = trace_history(
            pieces,
            self.manifest.journal if self.manifest else None,
            self.manifest.numbers if self.manifest else None,
            self._counted(),
        )
        self.found.records, self.found.events = history.records, history.events
        self.found.damages += [DamagedError(journal, start, what) for start, what in history.problems]
        self.found.manifest = self.manifest or _rebuilt(history.head, journal)
        self._keys(history)
        self._statistics()
        self._pictures([t.changed for t in history.edits.values()])
        self._edits(history)
        self._losses(history)
        self._opened()

    # ---- the parts

    def _manifest(self) -> Manifest | None:
        path = self.there / MANIFEST
        try:
            return Manifest.read(self.there)
        except DamagedError as damage:
            self.found.damages.append(damage)
        except ReasonEditError as error:
            if is_there(path):  # of another format
                raise
            if not self._journals():
                raise ReasonEditError(f"{error}{_beside(self.there)}") from error
            self.found.damages.append(DamagedError(path, 0, "the file is missing"))
            return None
        return mend_manifest(path)

    def _journals(self) -> list[Path]:
        """All journals that lie there, the latest first."""
        told = [(path, parse_name(path.name)) for path in self.there.glob("journal*.jsonl")]
        mine = [(path, name.generation) for path, name in told if name is not None]
        return [path for path, _ in sorted(mine, key=lambda m: m[1], reverse=True)]

    def _journal_file(self) -> Path:
        if self.manifest is not None:
            return self.there / self.manifest.journal_file
        return next(iter(self._journals()), self.there / JOURNAL)

    def _pieces(self, journal: Path) -> list[Piece]:
        """The records up to the last one that was acknowledged."""
        mark = self.manifest.journal if self.manifest else None
        try:
            read = salvage_journal(read_content(journal, _JOURNAL_MOST), mark.sum if mark else "")
        except DamagedError as damage:
            self.found.damages.append(damage)
            return []
        if read.rewritten:
            self.found.damages.append(DamagedError(journal, read.at, read.rewritten))
        if mark is not None and not _fits(self.manifest, read.pieces):
            self.found.damages.append(DamagedError(self.there / MANIFEST, 0, "it does not fit the journal"))
            self.manifest = mark = None
        if mark is None:
            return read.pieces
        end = next((i for i, p in enumerate(read.pieces, 1) if p.sum == mark.sum), mark.records)
        if len(read.pieces) > end:
            at = read.pieces[end].start
            self.found.notes.append(f"'{journal}' goes on behind byte {at} with what was never acknowledged")
        return read.pieces[:end]

    def _counted(self) -> Counted | None:
        settled = self.manifest.settled if self.manifest else None
        if settled is None:
            return None
        path = self._checked(settled.sums)
        tensors = load_tensors(path) if path is not None else {}
        return Counted(settled.records, tensors["counts"].numpy().astype(bool)) if "counts" in tensors else None

    def _keys(self, history: History) -> None:
        """The keys of each edit: from the file of its own, or from one in which files were joined."""
        joined = self._joined(history.head)
        behind = sum(s.count for s in self.manifest.sealed) if self.manifest else 0
        self.found.damages += [file.damage for file in joined if file.damage is not None]
        for name, trace in history.edits.items():
            event = trace.event
            if event is None or not event.facts:
                continue
            span = (event.first, len(event.facts), trace.sums)
            rows = first_proven(joined, *span)
            if rows is None and trace.sums is not None:
                alone = KeyFile.read(self.there, trace.sums, *span[:2])
                if alone.damage is not None and event.first >= behind and not any(_covers(j, event) for j in joined):
                    self.found.damages.append(alone.damage)
                rows = alone.rows(*span)
            if rows is not None:
                self.found.keys[name] = rows

    def _joined(self, head: Mapping[str, Any] | None) -> list[KeyFile]:
        if self.manifest is not None:
            return [KeyFile.read(self.there, s.sums, s.first, s.count) for s in self.manifest.sealed]
        told = {} if head is None else head["keys"]
        files = []
        for path in sorted((self.there / KEYS).glob("*-joined.safetensors")):
            name = path.relative_to(self.there).as_posix()
            kind = parse_name(name)
            if kind is None or kind.kind != "joined":
                continue
            count = int(path.name.split("-")[-2])
            known = told.get(name)
            made = KeyFile.read(self.there, known, kind.first, count) if known else None
            files.append(made or KeyFile.unproven(path, kind.first, count))
        return files

    def _statistics(self) -> None:
        manifest = self.found.manifest
        sums = manifest.statistics if manifest is not None else None
        unsure = self.there / "statistics.safetensors"  # of a format in which the journal does not say what they are
        if sums is not None:
            path = self._checked(sums)
        elif self.manifest is None and is_there(unsure):
            path = unsure
            self.found.notes.append(f"nothing says whether '{path}' is what was written")
        else:
            return
        try:
            self.found.statistics = load_tensors(path) if path is not None else {}
        except DamagedError as damage:
            self.found.damages.append(damage)
        digest = manifest.statistics_digest if manifest is not None else ""
        if path is not None and self.found.statistics and digest not in ("", digest_of(self.found.statistics)):
            self.found.damages.append(DamagedError(path, 0, "it is not the one that the codebook was made with"))
            self.found.statistics = {}
        if not self.found.statistics:
            self.found.notes.append(
                "what the embedding needs (statistics of unrelated pictures) is taken anew when the codebook is next "
                "used: on the same kind of machine, with the same versions, it is what it was"
            )

    def _pictures(self, changed: Iterable[StoredEdit | None]) -> None:
        edits = [*(e.edit for e in self.found.events), *changed]
        wanted = {name for edit in edits if edit is not None for name in edit.pictures}
        store = Store(self.there, Manifest("", "", {}, {}, True))
        for name in sorted(wanted):
            try:
                store.picture(name)
                self.found.pictures.add(name)
            except DamagedError as damage:
                self.found.damages.append(damage)

    def _checked(self, sums: Checksums) -> Path | None:
        try:
            return sums.check(self.there)
        except DamagedError as damage:
            self.found.damages.append(damage)
            return None

    # ---- what it comes to

    def _edits(self, history: History) -> None:
        for name, trace in sorted(history.edits.items(), key=lambda mine: mine[1].start):
            event = trace.event
            edit = event.edit if event is not None else trace.changed
            seen = tuple(p for p in edit.pictures if p in self.found.pictures) if edit is not None else ()
            keys = name in self.found.keys or (event is not None and not (event.facts or event.lost_facts))
            self.found.edits.append(
                FoundEdit(name, trace.start, trace.counts, trace.doubt, event, trace.guess, trace.changed, keys, seen)
            )

    def _losses(self, history: History) -> None:
        doubted = set[str]()
        for gap in history.gaps:
            if gap.records != 0:
                self.found.losses.append(_unknown(gap, history))
                doubted |= gap.candidates
        for edit in self.found.edits:
            if edit.event is None:
                why = "its record cannot be read" if edit.changed is None else "somebody changed its record"
                self.found.losses.append(f"the {_told(edit)}: {why}")
            elif edit.doubt and edit.id not in doubted:
                is_so = "counts" if edit.counts else "does not count"
                self.found.losses.append(f"the edit '{edit.id}' {is_so}, but {edit.doubt}")

    def _opened(self) -> None:
        if self.found.damages:
            return
        try:  # whatever the parts look like: what counts is whether it opens
            store = Store.open(self.there)
            EditMemory.read(store)  # which warns of nothing
        except DamagedError as damage:
            self.found.damages.append(damage)
            return
        left = store.leftovers()
        if left:
            size = sum(path.stat().st_size for path in left) / 2**20
            self.found.notes.append(
                f"{len(left)} files of {size:.1f} MiB are left over from what was cut short: 'reasonedit codebook "
                "compact' removes them"
            )


def _beside(there: Path) -> str:
    """A word on copies of a damaged codebook that lie beside where one should be."""
    copies = [p for p in there.parent.glob(f"{glob.escape(there.name)}.damaged-*") if Store.exists(p)]
    return f" '{max(copies)}' holds a copy of one that was damaged." if copies else ""


def _covers(file: KeyFile, event: Event) -> bool:
    return file.first <= event.first and event.first + len(event.facts) <= file.first + file.count


def _fits(manifest: Manifest | None, pieces: Sequence[Piece]) -> bool:
    """Whether the manifest is that of the journal, as far as that is still there."""
    if manifest is None or not pieces:
        return True
    told, made = pieces[0].values or {}, json.loads(json.dumps(writing.head_record(manifest)))
    if any(name in told and told[name] != made[name] for name in _MADE_WITH):
        return False
    mark = manifest.journal
    if any(p.sum == mark.sum for p in pieces) or len(pieces) < mark.records:
        return True
    return pieces[mark.records - 1].values is None


def _rebuilt(head: Mapping[str, Any] | None, journal: Path) -> Manifest | None:
    """The manifest as far as the journal's first record says it."""
    told = parse_name(journal.name)
    if head is None or told is None:
        return None
    made = Manifest(head["id"], head["created"], head["fingerprint"], head["config"], bool(head["merge"]))
    return replace(
        made,
        statistics=head["statistics"],
        statistics_digest=head["statistics_digest"],
        generation=told.generation,
        journal_file=journal.name,
    )


def _unknown(gap: Gap, history: History) -> str:
    """What a lost record may have said."""
    kinds = {"undone": True, "restored": False}
    may = {k: sorted(n for n in gap.candidates if history.edits[n].counts is alive) for k, alive in kinds.items()}
    told = ["have been an edit"] * gap.may_have_edit
    told += [f"have {kind} {_listed(names)}" for kind, names in may.items() if names]
    many = "records" if gap.records is None else "a record" if gap.records == 1 else f"{gap.records} records"
    return f"{many} at byte {gap.start}: it may {' or '.join(told)}" if told else f"{many} at byte {gap.start}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(f"'{name}'" for name in names[:8]) + more


def _told(edit: FoundEdit) -> str:
    """An edit whose record is lost, by what is left of it."""
    said = [f"{name} '{edit.guess[name]}'" for name in ("question", "answer", "author", "time") if edit.guess.get(name)]
    return f"edit '{edit.id}'" + (f" ({', '.join(said)})" if said else "")
