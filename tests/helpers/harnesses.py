"""What loops over faults count, and how they judge what a codebook shows afterwards."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .scenarios import NONE, REFUSED, SCENARIOS, Seen, compact, copy_tree, leftovers, look, states

Looks = Mapping[str, Seen]


@dataclass
class Tally:
    """What a harness tried and what went wrong.

    Attributes:
        what: What was tried, in the plural.
        tried: How many of them.
        failures: How many went wrong, by the kind of failure.
        examples: One of each kind, in words.
    """

    what: str
    tried: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def fail(self, kind: str, example: str) -> None:
        """Something went wrong."""
        self.failures[kind] += 1
        self.examples.setdefault(kind, example)

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common())
        return f"{self.what}: {self.tried:,} tried, {sum(self.failures.values()):,} failures" + (
            wrong and f" ({wrong})"
        )


def find_problem(seen: Looks, legal: Sequence[Looks]) -> tuple[str, str]:
    """What is wrong with what is seen: a kind, in a word or two, and the whole of it; nothing where it is legal."""
    for name in seen:
        mine, allowed = seen[name], [looks[name] for looks in legal]
        if mine in allowed or (mine.content == REFUSED and any(a.content == REFUSED for a in allowed)):
            continue
        told = f"{name}: {mine.words}; legal: {' | '.join(dict.fromkeys(a.words for a in allowed))}"
        if mine.content == NONE:
            return "codebooks that are not there", told
        return ("codebooks that do not open" if mine.content == REFUSED else "wrong contents"), told
    return "", ""


class Bench:
    """Scenarios with what each should show, and folders to try them in."""

    def __init__(self, scratch: Path, names: Sequence[str] = ()) -> None:
        self.root = scratch / "root"
        self._scratch = scratch
        self.expected: dict[str, list[Looks]] = {}
        for name in names or SCENARIOS:
            base = scratch / "bases" / name
            base.mkdir(parents=True)
            SCENARIOS[name].prepare(base)
            copy_tree(base, self.root)
            self.expected[name] = states(SCENARIOS[name], self.root)

    def prepare(self, name: str) -> Path:
        """What is there before a scenario."""
        copy_tree(self._scratch / "bases" / name, self.root)
        return self.root

    def judge(self, tally: Tally, name: str, acknowledged: int, how: str, *, retry: bool = True) -> None:
        """Whether what lies in the root is what may lie there, and whether another try comes to the end."""
        expected = self.expected[name]
        legal = expected[acknowledged : acknowledged + 2]
        try:
            seen = look(self.root)
        except Exception as error:
            tally.fail("raw errors", f"{name}, {how}: {error!r}")
            return
        kind, told = find_problem(seen, legal)
        if kind:
            tally.fail(kind, f"{name}, {how}: {told}")
            return
        if acknowledged == len(expected) - 1 and (kept := self._find_undeleted(name)):
            tally.fail("erased things that are there", f"{name}, {how}: {kept}")
        elif retry:
            self.finish(tally, name, how)

    def finish(self, tally: Tally, name: str, how: str) -> None:
        """Try once more, with nothing in the way, and put it in order."""
        try:
            for _ in SCENARIOS[name].act(self.root):
                pass
        except Exception as error:
            tally.fail("refused retries", f"{name}, {how}: {error!r}")
            return
        self.check_settled(tally, name, how)

    def check_settled(self, tally: Tally, name: str, how: str) -> None:
        """Whether all is there now and, once it is put in order, nothing else."""
        for what, act in (("after the retry", lambda _: None), ("put in order", compact)):
            act(self.root)
            kind, told = find_problem(look(self.root), self.expected[name][-1:])
            if kind:
                tally.fail(f"{kind} {what}", f"{name}, {how}: {told}")
                return
        if left := leftovers(self.root):
            tally.fail("leftovers", f"{name}, {how}: {', '.join(left)}")
        if kept := self._find_undeleted(name):
            tally.fail("erased things that are there", f"{name}, {how}: {kept}")

    def _find_undeleted(self, name: str) -> str:
        """What is there and should be gone, and where."""
        for path in (path for path in self.root.rglob("*") if path.is_file()):
            content = bytes(path) + path.read_bytes()
            if found := [part for part in SCENARIOS[name].gone if part in content]:
                return f"{found[0]!r} in {path}"
        return ""


def make_empty(scratch: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch
