"""A loop over flipped bits: each is noticed, and a repair says what it loses and turns."""

from __future__ import annotations

import contextlib
import io
import random
import re
from pathlib import Path

from reasonedit.codebook import EditMemory

from .harnesses import Tally, make_empty
from .scenarios import NONE, REFUSED, begin, copy_tree, look, numbered_edit, open_memory


def flips(scratch: Path, every: int = 40, seed: int = 0) -> Tally:
    """A flipped bit in each byte of each record that undoes or restores, and in every n-th byte of all other files."""
    tally, rng = Tally("flipped bits"), random.Random(seed)
    base, root = make_empty(scratch / "base"), scratch / "root"
    memory = _write_book(base)
    for path in sorted(p for p in base.rglob("*") if p.is_file() and p.name[0] != "."):
        data, name = path.read_bytes(), path.relative_to(base)
        turns = [m.span() for m in re.finditer(rb'\{"op": "(?:undo|restore)".*\n', data)]
        for at in range(len(data)):
            if at % every and not any(start <= at < end for start, end in turns):
                continue
            copy_tree(base, root)
            flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
            (root / name).write_bytes(flipped)
            tally.tried += 1
            _judge_flip(tally, root, root / name, memory, f"{name}, byte {at}: {flipped[max(0, at - 20) : at + 20]!r}")
    return tally


def _write_book(base: Path) -> EditMemory:
    memory = EditMemory()
    for number in (0, 1, 2):
        memory.write(*numbered_edit(number))
    memory.copy_to(begin(base / "book"))
    memory.undo("e00001")
    memory.settle()
    memory.undo("e00002")
    memory.restore("e00002")
    memory.write(*numbered_edit(4))
    memory.undo("e00000")
    return memory


def _judge_flip(tally: Tally, root: Path, path: Path, memory: EditMemory, how: str) -> None:
    try:
        seen = look(root)["book"]
        if seen.content == NONE:
            tally.fail("codebooks that are not there", how)
        elif seen.content != REFUSED and seen.words != _words(memory):
            tally.fail("changes that nobody noticed", f"{how}: {seen.words}")
        elif seen.content == REFUSED and str(path) not in seen.words:
            tally.fail("damages reported of another file", f"{how}: {seen.words}")
        if seen.content != REFUSED:
            return
        output = repair_by_command(root / "book")
        repaired = open_memory(root / "book")
    except Exception as error:
        tally.fail("errors", f"{how}: {error!r}")
        return
    if back := set(repaired.edits) & set(memory.undone):
        tally.fail("undone edits that count again", f"{how}: {', '.join(back)}: {output}")
    if hidden := set(repaired.undone) & set(memory.edits) - set(_named_edits(output)):
        tally.fail("edits that count no more, unsaid", f"{how}: {', '.join(hidden)}: {output}")
    lost = {*memory.edits, *memory.undone} - {*repaired.edits, *repaired.undone}
    if lost - set(_named_edits(output)):
        tally.fail("edits that are lost, unsaid", f"{how}: {', '.join(lost)}: {output}")


def _words(memory: EditMemory) -> str:
    return f"{' '.join(memory.edits) or 'no edits'}; undone: {' '.join(memory.undone) or 'none'}"


def _named_edits(output: str) -> list[str]:
    return re.findall(r"e\d{5}", output)


def repair_by_command(folder: Path) -> str:
    """Repair by the command, as a person who agrees to losses; what it prints."""
    from reasonedit.commands.codebook import main

    help_, output = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(help_), contextlib.suppress(SystemExit):
        main(["repair", "--help"])
    agreed = [flag for flag in ("--yes", "--no-embed") if flag in help_.getvalue()]
    with contextlib.redirect_stdout(output):
        main(["repair", str(folder), *agreed])
    return output.getvalue()
