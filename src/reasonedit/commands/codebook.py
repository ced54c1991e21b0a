"""``reasonedit codebook``: a codebook's folder, checked, repaired, put in order, moved to another VLM or to the Hub."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from reasonedit.codebook import EditMemory, Store
from reasonedit.codebook.hub import fetched, pushed
from reasonedit.codebook.repair import LOST, Found, repair, verify

from .screen import Screen

_console = Screen(highlight=False, soft_wrap=True)


def main(argv: Sequence[str]) -> int:
    """Run one of them.

    Returns:
        0, or 1 where something is damaged.
    """
    parser = argparse.ArgumentParser(prog="reasonedit codebook", description="The folder of a codebook.")
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, text in (
        ("verify", "read everything and say what is damaged; nothing is changed"),
        ("repair", "recover what can be read; the damaged folder is kept beside the new one"),
        ("compact", "join the files of keys into one, and remove what nothing refers to"),
        ("migrate", "embed the edits anew, for another VLM, into a new folder"),
        ("push", "upload to the Hugging Face Hub, the edits' pictures included"),
        ("pull", "fetch from the Hugging Face Hub into a new folder"),
    ):
        action = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        action.add_argument("codebook", type=Path, help="folder of the codebook")
        if name == "migrate":
            action.add_argument("--to", required=True, metavar="MODEL", help="the VLM: hub id, folder, or embedded")
            action.add_argument("--out", type=Path, required=True, help="the new folder; goes on there if cut short")
            action.add_argument(
                "--design", default=None, help="design of the new codebook, a JSON file (default: as now)"
            )
            action.add_argument("--dtype", default="auto", help="auto, bfloat16, float16 or float32")
        if name in ("push", "pull"):
            action.add_argument("repo", help="repository on the Hub: OWNER/NAME")
        if name == "push":
            action.add_argument("--public", action="store_true", help="make a new repository public")
        if name == "pull":
            action.add_argument("--revision", default=None, help="branch, tag or commit")
    given = parser.parse_args(argv)
    if given.action == "verify":
        found = verify(given.codebook)
        _report(given.codebook, found)
        return int(bool(found.damages))
    if given.action == "repair":
        found, kept = repair(given.codebook)
        _report(given.codebook, found)
        if kept is not None:
            _console.print(f"repaired; the damaged folder is {kept}", markup=False)
            if found.keyless:
                lost = given.codebook / LOST
                _console.print(
                    f"embed the others anew by: reasonedit edits import {given.codebook} {lost}", markup=False
                )
        return 0
    if given.action == "pull":
        store = Store.open(fetched(given.repo, given.revision), read_only=True)
        memory, manifest = EditMemory.open(store), store.manifest
        memory.copy_to(
            Store.create(given.codebook, manifest.fingerprint, manifest.config, store.statistics(), manifest.merge)
        )
        _console.print(f"{given.codebook} holds {len(memory.edits)} edits", markup=False)
        return 0
    store = Store.open(given.codebook)
    if given.action == "push":
        _console.print(pushed(store, given.repo, private=not given.public, message="Codebook"), markup=False)
        return 0
    memory = EditMemory.open(store)
    if given.action == "compact":
        before = _size(given.codebook)
        memory.settle(join=True)
        with store.writing():
            store.tidy()
        files, size = _size(given.codebook)
        was = f"{before[0]} files of {before[1] / 2**20:.1f} MiB"
        _console.print(f"{given.codebook}: {was} before, {files} of {size / 2**20:.1f} MiB now", markup=False)
        return 0
    return _migrate(memory, given)


def _size(folder: Path) -> tuple[int, int]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name[0] != "."]
    return len(files), sum(p.stat().st_size for p in files)


def _report(folder: Path, found: Found) -> None:
    total = len(found.whole) + len(found.keyless)
    for damage in found.damages:
        _console.print(f"damaged: {damage.path}, byte {damage.offset}: {damage.what}", markup=False)
    for note in found.notes:
        _console.print(f"note: {note}", markup=False)
    if not found.damages:
        _console.print(f"{folder}: whole; {total} edits, {len(found.pictures)} pictures", markup=False)
        return
    unread = f", {found.unread} records that cannot be read" if found.unread else ""
    keyless = f", {len(found.keyless)} with text and no keys (to be embedded anew)" if found.keyless else ""
    _console.print(f"{folder}: {len(found.whole)} edits can be recovered whole{keyless}{unread}", markup=False)


def _migrate(memory: EditMemory, given: argparse.Namespace) -> int:
    from rich.progress import Progress

    from reasonedit.design import Design
    from reasonedit.migrate import migrated
    from reasonedit.vlm import load_vlm

    assert memory.store is not None
    design = Design.from_dict(memory.store.manifest.config["design"])
    if given.design is not None:
        design = Design.load(given.design, Design.default(given.to))
    with _console.status("loading the VLM"):
        vlm = load_vlm(given.to, dtype=given.dtype, place=True)
    with Progress(console=Screen(stderr=True)) as bar:
        task = bar.add_task("embedding edits", total=None)
        new = migrated(memory, vlm, given.out, design, lambda done, of: bar.update(task, completed=done, total=of))
    _console.print(
        f"{given.out} holds {len(new.edits)} edits for {given.to}; {given.codebook} is as it was", markup=False
    )
    return 0
