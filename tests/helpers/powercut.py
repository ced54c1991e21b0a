"""What may lie on a disk when the power goes: a model over the system calls of a process, as strace records them.

A write is on the disk once its file was synced, a name once its folder was (``fsync``). Until then, when the power
goes: of the writes of a file there may be none, all, the first ones, or the last one by a part or as zeros; of the
changes of names any subset, each whole, in any order of folders. That is weaker than what ext4, XFS or APFS promise,
and about what POSIX does.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from shutil import which
from typing import Any

CALLS = (
    "open openat creat read write pread64 pwrite64 readv writev pwritev lseek ftruncate truncate fallocate fsync "
    "fdatasync rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mkdir mkdirat rmdir sendfile "
    "copy_file_range mmap dup dup2 dup3 fcntl close ioctl"
)
_CALL = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_OPEN_FILE = r"(\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2})*)(?:>\(deleted\)|>)"
_HARMLESS = re.compile(r"^pread64|^mmap\(.*(PROT_READ,|MAP_PRIVATE)|^fcntl\(.*, F_[GS]ET|^ioctl\(.*, (TCGETS|FIOCLEX)")
_SAID = b'{"acknowledged"'


def missing() -> str:
    """Why nothing can be recorded here; nothing where it can."""
    return "" if which("strace") else "there is no strace"


@dataclass(frozen=True)
class Call:
    """A system call that came off: its name, its arguments as they stand in the record, and what it returned."""

    name: str
    arguments: str
    result: int

    @property
    def texts(self) -> list[bytes]:
        """Its strings: paths, or what is written."""
        return [_bytes(text) for text in re.findall(_TEXT, self.arguments)]

    @property
    def files(self) -> list[int]:
        """The numbers of the open files among its arguments, -1 for the working folder."""
        return [-1 if number == "AT_FDCWD" else int(number) for number, _ in re.findall(_OPEN_FILE, self.arguments)]

    @property
    def numbers(self) -> list[int]:
        """Its plain numbers."""
        bare = re.sub(f"{_TEXT}|{_OPEN_FILE}", "", self.arguments)
        return [int(number) for number in re.findall(r"(?<![\w\[])-?\d+(?![\w\]])", bare)]


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


class Recorder:
    """A process that does scenarios while its system calls are recorded."""

    def __init__(self, scratch: Path) -> None:
        self._log = scratch / "calls"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        here = str(Path(__file__).parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.powercut"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip

    def record(self, scenario: str, root: Path) -> list[Call]:
        """The calls of one scenario, from its beginning to its end."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"
        trace = ["strace", "-f", "-y", "-xx", "-s", str(1 << 28), "-o", str(self._log), "-p", str(self._process.pid)]
        with subprocess.Popen(
            [*trace, "-e", f"trace={','.join(CALLS.split())}"], stderr=subprocess.PIPE, text=True
        ) as recorder:
            assert recorder.stderr is not None
            for line in recorder.stderr:  # until it is there
                if "attached" in line:
                    break
            else:
                raise RuntimeError("strace may not look into other processes here")
            self._process.stdin.write(json.dumps({"scenario": scenario, "root": str(root)}) + "\n")
            self._process.stdin.flush()
            while "done" not in (line := self._process.stdout.readline()):
                assert line, "the process that is recorded has ended"
            recorder.terminate()
            recorder.stderr.read()
        return _read(self._log)

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def _read(log: Path) -> list[Call]:
    calls, cut = [], dict[str, str]()
    for line in log.read_text().splitlines():
        process = line.split(" ", 1)[0]
        if line.endswith("<unfinished ...>"):
            cut[process] = line.removesuffix("<unfinished ...>")
            continue
        resumed = re.sub(r"^\d+ +<\.\.\. \w+ resumed>", "", line)
        if resumed != line:
            line = cut.pop(process) + resumed
        if (found := _CALL.match(line)) and int(found[3]) >= 0:
            calls.append(Call(found[1], found[2], int(found[3])))
    return calls


@dataclass(eq=False)
class File:
    """Bytes that are on the disk, and writes that may be: (place, bytes), or (size, none) where it was cut."""

    durable: bytes = b""
    pending: list[tuple[int, bytes | None]] = field(default_factory=list)

    @property
    def live(self) -> bytes:
        """As processes see it."""
        return _written(self.durable, self.pending)


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
    """Files and folders below a root, with what is on the disk and what may be.

    Args:
        root: What is there, and on the disk, before anything is replayed.
    """

    def __init__(self, root: Path) -> None:
        self._path = os.fsencode(root)
        self.root = _taken(root)
        self.changes: list[Change] = []
        self._handles: dict[int, _Handle] = {}

    def replay(self, call: Call) -> bool:
        """Do what a call did; whether anything below the root was changed or synced."""
        act: Callable[[Call], bool] | None = getattr(self, f"_{call.name}", None)
        if act is not None:
            return act(call)
        # What is not modelled must not go unseen.
        here = any(number in self._handles for number in call.files) or any(self._at(t, -1) for t in call.texts)
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
        return dict(_listed(self.root, "", applied, lambda file: _content(file, rng, data)))

    # ---- calls

    def _openat(self, call: Call) -> bool:
        self._handles.pop(call.result, None)
        where = self._at(call.texts[0], call.files[0] if call.files else -1)
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
        return self._copied(source, target, call.result)

    def _copy_file_range(self, call: Call) -> bool:
        source, target = call.files
        return self._copied(source, target, call.result)

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
                _set(folder.durable, name, node)
        return True

    _fdatasync = _fsync

    def _rename(self, call: Call) -> bool:
        return self._moved(call, keep=False)

    _renameat = _renameat2 = _rename

    def _link(self, call: Call) -> bool:
        return self._moved(call, keep=True)

    _linkat = _link

    def _moved(self, call: Call, *, keep: bool) -> bool:
        places = [self._at(text, at) for text, at in zip(call.texts, call.files or [-1, -1], strict=True)]
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
        where = self._at(call.texts[0], call.files[0] if call.files else -1)
        if where is None:
            return False
        self._change([(*where, None)])
        return True

    _unlinkat = _rmdir = _unlink

    def _mkdir(self, call: Call) -> bool:
        where = self._at(call.texts[0], call.files[0] if call.files else -1)
        if where is None:
            return False
        self._change([(*where, Folder())])
        return True

    _mkdirat = _mkdir

    # ---- parts of them

    def _change(self, change: Change) -> None:
        self.changes.append(change)
        for folder, name, node in change:
            _set(folder.live, name, node)

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

    def _copied(self, source: int, target: int, count: int) -> bool:
        if target not in self._handles:
            return False
        file = self._handles[source]
        assert isinstance(file.node, File)
        file.place += count
        return self._put(target, file.node.live[file.place - count : file.place])

    def _at(self, path: bytes, number: int) -> tuple[Folder, str] | None:
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


def _taken(path: Path) -> Folder:
    names = {p.name: _taken(p) if p.is_dir() else File(p.read_bytes()) for p in path.iterdir()}
    return Folder(dict(names), dict(names))


def _set(names: dict[str, File | Folder], name: str, node: File | Folder | None) -> None:
    if node is None:
        names.pop(name, None)
    else:
        names[name] = node


def _written(data: bytes, writes: list[tuple[int, bytes | None]]) -> bytes:
    for place, piece in writes:
        data = data[:place].ljust(place, b"\0") + (b"" if piece is None else piece + data[place + len(piece) :])
    return data


def _content(file: File, rng: random.Random, data: float) -> bytes:
    """What of a file's writes may be there."""
    if not file.pending or rng.random() < data:
        return file.live
    if data == 0 or rng.random() < 0.4:
        return file.durable
    count = rng.randrange(len(file.pending))
    place, piece = file.pending[count]
    if piece is None:
        return _written(file.durable, file.pending[:count])
    torn = piece[: rng.randrange(len(piece) + 1)]
    if rng.random() < 0.3:
        torn = torn.ljust(len(piece), b"\0")  # the size came to the disk, what lies there did not
    return _written(file.durable, [*file.pending[:count], (place, torn)])


def _listed(
    folder: Folder, path: str, applied: dict[int, dict[str, File | Folder | None]], content: Callable[[File], bytes]
) -> Iterator[tuple[str, bytes | None]]:
    names: dict[str, File | Folder | None] = {**folder.durable, **applied.get(id(folder), {})}
    for name, node in names.items():
        if isinstance(node, File):
            yield path + name, content(node)
        elif node is not None:
            yield path + name, None
            yield from _listed(node, f"{path}{name}/", applied, content)


def acknowledges(call: Call) -> bool:
    """Whether a call says that a step is acknowledged."""
    return call.name == "write" and call.texts[0].startswith(_SAID)


def laid_out(state: dict[str, bytes | None], root: Path) -> None:
    """Write a state into an empty folder."""
    for name, content in state.items():
        if content is None:
            (root / name).mkdir()
        else:
            (root / name).write_bytes(content)


def _serve() -> None:
    import torch

    from helpers.scenarios import SCENARIOS

    logging.getLogger("reasonedit").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    os.write(1, b"ready\n")
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        for _ in SCENARIOS[asked["scenario"]].act(Path(asked["root"])):
            os.write(1, _SAID + b": true}\n")
        os.write(1, b"done\nready\n")


if __name__ == "__main__":
    _serve()
