"""What may lie on a disk when the power goes: a model over the system calls of a process.

A write is on the disk once its file was synced, a name once its folder was (``fsync``). Until then, when the power
goes: of the writes of a file there may be none, all, the first ones, or the last one by a part or as zeros; of the
changes of names any subset, each whole, in any order of folders. That is weaker than what ext4, XFS or APFS promise,
and about what POSIX does.
"""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .recorder import Call

_HARMLESS = re.compile(r"^pread64|^mmap\(.*(PROT_READ,|MAP_PRIVATE)|^fcntl\(.*, F_[GS]ET|^ioctl\(.*, (TCGETS|FIOCLEX)")


@dataclass(eq=False)
class File:
    """Bytes that are on the disk, and writes that may be: (place, bytes), or (size, none) for a truncation."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    @property
    def live(self) -> bytes:
        """The content as processes see it."""
        return _apply_writes(self.durable, self.pending)


@dataclass(eq=False)
class Folder:
    """Names that are on the disk, and names as processes see them."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    live: dict[str, File | Folder] = field(default_factory=dict)


Change = list[tuple[Folder, str, "File | Folder | None"]]
"""Names that change at once: a folder, a name, and what it then stands for."""


@dataclass
class _Handle:
    node: File | Folder
    place: int = 0
    appends: bool = False


class Disk:
    """Files and folders below a root: what is on the disk, and what may be.

    Args:
        root: What is there, and on the disk, before anything is replayed.
    """

    def __init__(self, root: Path) -> None:
        self._path = os.fsencode(root)
        self.root = _read_folder(root)
        self.changes: list[Change] = []
        self._handles: dict[int, _Handle] = {}

    def replay(self, call: Call) -> bool:
        """Do what a call did; whether it changed or synced anything below the root."""
        act: Callable[[Call], bool] | None = getattr(self, f"_{call.name}", None)
        if act is not None:
            return act(call)
        # What is not modelled must not go unseen.
        here = any(number in self._handles for number in call.files) or any(self._locate(t, -1) for t in call.texts)
        assert not here or _HARMLESS.search(f"{call.name}({call.arguments}"), f"no model of {call}"
        return False

    def crash(self, rng: random.Random, names: float, data: float) -> dict[str, bytes | None]:
        """What may lie there when the power goes now: bytes of files, none for folders.

        Args:
            rng: Chooses.
            names: How likely each change of names has come to the disk.
            data: How likely the writes of a file have; by part in between.
        """
        applied: dict[int, dict[str, File | Folder | None]] = {}
        for change in self.changes:
            if rng.random() < names:
                for folder, name, node in change:
                    applied.setdefault(id(folder), {})[name] = node
        return dict(_list_files(self.root, "", applied, lambda file: _choose_content(file, rng, data)))

    # ---- calls

    def _openat(self, call: Call) -> bool:
        self._handles.pop(call.result, None)
        where = self._locate(call.texts[0], call.files[0] if call.files else -1)
        if where is None:
            return False
        folder, name = where
        flags = call.arguments
        node = folder.live.get(name) if name else self.root
        fresh = node is None
        if node is None:
            node = File()
            self._change([(folder, name, node)])
        cut = "O_TRUNC" in flags and isinstance(node, File) and not fresh and bool(node.live)
        if cut:
            assert isinstance(node, File)
            node.pending.append((0, None))
        self._handles[call.result] = _Handle(node, appends="O_APPEND" in flags)
        return fresh or cut

    _open = _openat

    def _close(self, call: Call) -> bool:
        self._handles.pop(call.files[0] if call.files else -2, None)
        return False

    def _read(self, call: Call) -> bool:
        if handle := self._handles.get(call.files[0]):
            handle.place += call.result
        return False

    def _lseek(self, call: Call) -> bool:
        if handle := self._handles.get(call.files[0]):
            handle.place = call.result
        return False

    def _write(self, call: Call) -> bool:
        return self._put(call.files[0], call.texts[0][: call.result])

    def _pwrite64(self, call: Call) -> bool:
        return self._put(call.files[0], call.texts[0][: call.result], call.numbers[-1])

    def _sendfile(self, call: Call) -> bool:
        target, source = call.files
        return self._copy_bytes(source, target, call.result)

    def _copy_file_range(self, call: Call) -> bool:
        source, target = call.files
        return self._copy_bytes(source, target, call.result)

    def _ftruncate(self, call: Call) -> bool:
        handle = self._handles.get(call.files[0])
        if handle is None:
            return False
        assert isinstance(handle.node, File)
        if len(handle.node.live) != call.numbers[-1]:
            handle.node.pending.append((call.numbers[-1], None))
        return True

    def _fsync(self, call: Call) -> bool:
        handle = self._handles.get(call.files[0])
        if handle is None:
            return False
        if isinstance(handle.node, File):
            handle.node.durable, handle.node.pending = handle.node.live, []
            return True
        for change in [c for c in self.changes if any(folder is handle.node for folder, _, _ in c)]:
            self.changes.remove(change)
            for folder, name, node in change:
                _set_name(folder.durable, name, node)
        return True

    _fdatasync = _fsync

    def _rename(self, call: Call) -> bool:
        return self._move(call, keep=False)

    _renameat = _renameat2 = _rename

    def _link(self, call: Call) -> bool:
        return self._move(call, keep=True)

    _linkat = _link

    def _move(self, call: Call, *, keep: bool) -> bool:
        places = [self._locate(text, at) for text, at in zip(call.texts, call.files or [-1, -1], strict=True)]
        if places == [None, None]:
            return False
        assert places[0] is not None, f"something comes from elsewhere: {call}"
        assert places[1] is not None, f"something goes elsewhere: {call}"
        (source, old), (target, new) = places
        moved = source.live[old]
        exchanged = target.live.get(new) if "RENAME_EXCHANGE" in call.arguments else None
        self._change([*([] if keep else [(source, old, exchanged)]), (target, new, moved)])
        return True

    def _unlink(self, call: Call) -> bool:
        where = self._locate(call.texts[0], call.files[0] if call.files else -1)
        if where is None:
            return False
        self._change([(*where, None)])
        return True

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, call: Call) -> bool:
        where = self._locate(call.texts[0], call.files[0] if call.files else -1)
        if where is None:
            return False
        self._change([(*where, Folder())])
        return True

    _mkdirat = _mkdir

    # ---- parts of them

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        for folder, name, node in change:
            _set_name(folder.live, name, node)

    def _put(self, number: int, data: bytes, place: int | None = None) -> bool:
        handle = self._handles.get(number)
        if handle is None:
            return False
        assert isinstance(handle.node, File)
        if place is None:
            place = len(handle.node.live) if handle.appends else handle.place
            handle.place = place + len(data)
        handle.node.pending.append((place, data))
        return True

    def _copy_bytes(self, source: int, target: int, count: int) -> bool:
        if target not in self._handles:
            return False
        file = self._handles[source]
        assert isinstance(file.node, File)
        file.place += count
        return self._put(target, file.node.live[file.place - count : file.place])

    def _locate(self, path: bytes, number: int) -> tuple[Folder, str] | None:
        """The folder below the root and the name in it that a path means; none for other places."""
        folder: File | Folder | None
        if path.startswith(b"/"):
            if path != self._path and not path.startswith(self._path + b"/"):
                return None
            folder, parts = self.root, path[len(self._path) :].split(b"/")
        else:
            if number not in self._handles:
                return None  # the working folder is not below the root
            folder, parts = self._handles[number].node, path.split(b"/")
        names = [os.fsdecode(part) for part in parts if part not in (b"", b".")]
        for name in names[:-1]:
            assert isinstance(folder, Folder)
            folder = folder.live[name]
        assert isinstance(folder, Folder)
        return folder, names[-1] if names else ""


def _read_folder(path: Path) -> Folder:
    names = {p.name: _read_folder(p) if p.is_dir() else File(p.read_bytes()) for p in path.iterdir()}
    return Folder(dict(names), dict(names))


def _set_name(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _apply_writes(data: bytes, writes: list[tuple[int, bytes | None]]) -> bytes:
    for place, piece in writes:
        data = data[:place].ljust(place, b"\0") + (b"" if piece is None else piece + data[place + len(piece) :])
    return data


def _choose_content(file: File, rng: random.Random, data: float) -> bytes:
    """What of a file's writes may be there."""
    if not file.pending or rng.random() < data:
        return file.live
    if data == 0 or rng.random() < 0.4:
        return file.durable
    count = rng.randrange(len(file.pending))
    place, piece = file.pending[count]
    if piece is None:
        return _apply_writes(file.durable, file.pending[:count])
    torn = piece[: rng.randrange(len(piece) + 1)]
    if rng.random() < 0.3:
        torn = torn.ljust(len(piece), b"\0")  # the size came to the disk, what lies there did not
    return _apply_writes(file.durable, [*file.pending[:count], (place, torn)])


def _list_files(
    folder: Folder, path: str, applied: dict[int, dict[str, File | Folder | None]], content: Callable[[File], bytes]
) -> Iterator[tuple[str, bytes | None]]:
    names: dict[str, File | Folder | None] = {**folder.durable, **applied.get(id(folder), {})}
    for name, node in names.items():
        if isinstance(node, File):
            yield path + name, content(node)
        elif node is not None:
            yield path + name, None
            yield from _list_files(node, f"{path}{name}/", applied, content)


def lay_out(state: dict[str, bytes | None], root: Path) -> None:
    """Write a state into an empty folder."""
    for name, content in state.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)
