"""Scenarios: what is done to codebooks while the machine fails, and what must be there after each step.

A scenario works on folders below a root of its own. It is a generator that yields once a step is acknowledged. It can
be run again at any time and leaves out what is done already, like a person who tries once more.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from reasonedit import ReasonEditError, ReasonEditor
from reasonedit.codebook import EditMemory, Entry, Store
from reasonedit.codebook.drafts import Draft
from reasonedit.embedding import SentenceEncoder
from reasonedit.migrate import migrate_codebook
from reasonedit.types import Edit
from reasonedit.vlm import VLM, load_vlm

from .tiny import HashEncoder, design, save_tiny_llava
from .writer import make_edit

NONE, REFUSED = "none", "refused"
_OF_E0 = (b"thing 0", b"pictures/ed92030a1d77d88f", b"pictures/838753dba307ad29", b"keys/00000000")
"""Of the edit e00000: its answer, its pictures, and the files of its keys before it was erased."""

_TIME = "2026-01-01T00:00:00+00:00"


@dataclass(frozen=True)
class Seen:
    """What a codebook shows once it is opened: in words, and as a digest of its content."""

    words: str
    content: str


@dataclass(frozen=True)
class Scenario:
    """Something that is done to codebooks.

    Attributes:
        prepare: Makes what is there before.
        act: Does it, or the rest of it; yields after each step that was acknowledged.
        gone: What no file, and no name of a file, may hold once all steps are acknowledged.
        stride: Of how many of its calls one is tried: a scenario that runs a model takes long.
    """

    prepare: Callable[[Path], None]
    act: Callable[[Path], Iterator[Any]]
    gone: tuple[bytes, ...] = ()
    stride: int = 1


def look(root: Path) -> dict[str, Seen]:
    """What each codebook below a scenario's root shows."""
    return {name: _look(root / name) for name in ("book", "copy")}


def _look(folder: Path) -> Seen:
    if not Store.exists(folder):
        return Seen(NONE, NONE)
    try:
        memory = open_memory(folder)
        assert memory.store is not None
        statistics = {name: tensor.tolist() for name, tensor in memory.store.statistics().items()}
        edits = [*memory.edits.values(), *memory.undone.values()]
        pictures = sorted({name for edit in edits for name in edit.pictures})
        for name in pictures:
            memory.picture(name)
    except ReasonEditError as error:
        return Seen(f"{REFUSED}: {error}", REFUSED)
    content = [
        [(event.op, event.edit_id) for event in memory.events],
        [asdict(replace(edit, version="")) for edit in edits],
        [(key, fact.text) for key, facts in enumerate(memory.entries) for fact in facts],
        [memory.keys.tolist(), memory.radii.tolist(), statistics],
    ]
    words = f"{' '.join(memory.edits) or 'no edits'}; undone: {' '.join(memory.undone) or 'none'}"
    return Seen(words, hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest())


def open_memory(folder: Path) -> EditMemory:
    return EditMemory.open(Store.open(folder))


def compact(root: Path) -> None:
    """Compact each codebook, as the command does."""
    for name in ("book", "copy"):
        if Store.exists(root / name):
            memory = open_memory(root / name)
            assert memory.store is not None
            memory.settle(join=True)
            with memory.store.writing():
                memory.store.tidy()


def leftovers(root: Path) -> list[str]:
    """Hidden files and folders that a scenario cut short has left, in the codebooks or beside them.

    The copy of a damaged folder may hold some, as the folder did.
    """
    names = [path.relative_to(root) for path in root.rglob("*")]
    hidden = [n for n in names if any(part[0] == "." and part != ".lock" for part in n.parts)]
    return [n.as_posix() for n in hidden if ".damaged-" not in n.parts[0] or n.parts[0][0] == "."]


def numbered_edit(number: int) -> tuple[Edit, list[Entry]]:
    """An edit that depends on its number alone, even its time."""
    edit, entries = make_edit(number)
    return replace(edit, time=_TIME), entries


def begin(folder: Path) -> Store:
    return Store.create(folder, {"vlm": "v"}, {"model": "m"}, {"mean": torch.arange(4.0)})


def _prepare_book(*numbers: int, undone: tuple[int, ...] = (), settled: bool = True) -> Callable[[Path], None]:
    def prepare(root: Path) -> None:
        memory = EditMemory()
        for number in numbers:
            memory.write(*numbered_edit(number))
        for number in undone:
            memory.undo(f"e{number:05d}")
        memory.copy_to(begin(root / "book"))
        if not settled:
            memory.write(*numbered_edit(numbers[-1] + 1))

    return prepare


def _known(memory: EditMemory) -> set[str]:
    return {*memory.edits, *memory.undone}


def _begin(root: Path) -> Iterator[None]:
    if not Store.exists(root / "book"):
        EditMemory().copy_to(begin(root / "book"))
    yield
    yield from _edit(0)(root)


def _edit(*numbers: int) -> Callable[[Path], Iterator[None]]:
    """Write edits one after the other."""

    def act(root: Path) -> Iterator[None]:
        memory = open_memory(root / "book")
        for number in numbers:
            edit, entries = numbered_edit(number)
            if edit.id not in _known(memory):
                memory.write(edit, entries)
            yield

    return act


def _together(*numbers: int) -> Callable[[Path], Iterator[None]]:
    """Write edits all at once."""

    def act(root: Path) -> Iterator[None]:
        memory = open_memory(root / "book")
        drafts = [Draft.of(*numbered_edit(number)) for number in numbers]
        if drafts[0].edit.id not in _known(memory):
            memory.add(drafts)
        yield

    return act


def _replace(root: Path) -> Iterator[None]:
    """Write an edit in the place of another."""
    memory = open_memory(root / "book")
    edit, entries = numbered_edit(3)
    if edit.id not in _known(memory):
        memory.replace("e00001", Draft.of(edit, entries))
    yield


def _turns(root: Path) -> Iterator[None]:
    memory = open_memory(root / "book")
    past = len(memory.events)
    start = sum(event.op == "edit" for event in memory.events)
    for number, (op, edit_id) in enumerate((("undo", "e00001"), ("undo", "e00002"), ("restore", "e00001"))):
        if past <= start + number:
            getattr(memory, op)(edit_id)
        yield


def _settle(root: Path) -> Iterator[None]:
    open_memory(root / "book").settle()
    yield


def _join(root: Path) -> Iterator[None]:
    compact(root)
    yield


def _save(root: Path) -> Iterator[None]:
    if not Store.exists(root / "copy"):
        open_memory(root / "book").copy_to(begin(root / "copy"))
    yield


def _backup(root: Path) -> Iterator[None]:
    from reasonedit.codebook.backup import backup

    if not Store.exists(root / "copy"):
        backup(root / "book", root / "copy")
    yield


def _erase(*names: str) -> Callable[[Path], Iterator[None]]:
    def act(root: Path) -> Iterator[None]:
        from reasonedit.erasure import erase

        try:
            erase(root / "book", names)
        except ReasonEditError as error:
            if "There is no edit" not in str(error):  # it was erased before this try
                raise
        yield

    return act


def _prepare_rewritten(root: Path) -> None:
    """A codebook that was rewritten before."""
    _prepare_book(0, 1, 2, 3, undone=(1,))(root)
    for _ in _erase("e00000")(root):
        pass


@cache
def _models() -> tuple[VLM, tempfile.TemporaryDirectory[str]]:
    """A tiny VLM, and the folder that it lies in."""
    SentenceEncoder.from_pretrained = classmethod(lambda cls, name="hash", device=None: HashEncoder())
    folder = tempfile.TemporaryDirectory()
    return load_vlm(str(save_tiny_llava(Path(folder.name))), dtype="float32"), folder


def _prepare_embedded(root: Path) -> None:
    """A codebook with keys of a VLM, and one edit undone."""
    editor = ReasonEditor(_models()[0], design(k=2, keys="image"))
    for number in range(2):
        edit, _ = numbered_edit(number)
        editor.write(replace(edit, evidence=[[(0.0, 0.0, 0.5, 0.5)], None]))
    editor.undo("e00000")
    editor.save(root / "book")


def _migrate(root: Path) -> Iterator[None]:
    migrate_codebook(open_memory(root / "book"), _models()[0], root / "copy", design(k=2, keys="both"))
    yield


def _prepare_damaged(root: Path) -> None:
    """A codebook with an undone edit, and damaged keys of the last edit, in a file of their own."""
    _prepare_book(0, 1, 2, 3, undone=(1,), settled=False)(root)
    path = max(root.glob("book/keys/*"), key=lambda p: p.name)
    data = bytearray(path.read_bytes())
    data[-3] ^= 16
    path.write_bytes(data)


def _repair(root: Path) -> Iterator[None]:
    from reasonedit.codebook.repair import repair

    repair(root / "book", accept_loss=True)
    yield


def _edit_and_join(root: Path) -> Iterator[None]:
    yield from _edit(4)(root)
    yield from _join(root)


def _many(*numbers: int) -> Callable[[Path], Iterator[str]]:
    """Write edits one after the other and yield their ids; one that cannot be written is left out."""

    def act(root: Path) -> Iterator[str]:
        memory = open_memory(root / "book")
        for number in numbers:
            edit, entries = numbered_edit(number)
            try:
                memory.write(edit, entries)
            except ReasonEditError:
                continue
            yield edit.id

    return act


SCENARIOS = {
    "begin": Scenario(lambda root: None, _begin),
    "edit": Scenario(_prepare_book(0, 1), _edit(2, 3)),
    "edits together": Scenario(_prepare_book(0, 1), _together(2, 3)),
    "replace": Scenario(_prepare_book(0, 1, 2), _replace),
    "undo and restore": Scenario(_prepare_book(0, 1, 2), _turns),
    "settle": Scenario(_prepare_book(0, 1, 2, undone=(1,), settled=False), _settle),
    "compact": Scenario(_prepare_book(0, 1, 2, undone=(1,), settled=False), _join),
    "save": Scenario(_prepare_book(0, 1, 2, undone=(1,)), _save),
    "backup": Scenario(_prepare_book(0, 1, 2, undone=(1,), settled=False), _backup),
    "migrate": Scenario(_prepare_embedded, _migrate, stride=7),
    "repair": Scenario(_prepare_damaged, _repair),
    "erase": Scenario(_prepare_book(0, 1, 2, 3, undone=(1,)), _erase("e00000"), gone=_OF_E0),
    "edit what was rewritten": Scenario(_prepare_rewritten, _edit(4)),
    "compact what was rewritten": Scenario(_prepare_rewritten, _edit_and_join),
}

WRITERS = {f"writer {n}": Scenario(_prepare_book(0), _many(*range(1 + n, 65, 2))) for n in range(2)}
"""Two processes that write at the same time."""


def states(scenario: Scenario, root: Path) -> list[dict[str, Seen]]:
    """What is seen in a prepared root before, and after each step, where nothing fails."""
    return [look(root), *(look(root) for _ in scenario.act(root))]


def copy_tree(source: Path, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True)
