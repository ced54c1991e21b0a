"""How loops over faults count failures, and judge what a codebook shows afterwards."""

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
        """Count a failure."""
        self.failures[kind] += 1
        self.examples.setdefault(kind, example)

    def __str__(self) -> str:
        wrong = ", ".join(f"{count} {kind}" for kind, count in self.failures.most_common())
        return f"{self.what}: {self.tried:,} tried, {sum(self.failures.values()):,} failures" + (
            wrong and f" ({wrong})"
        )


def find_problem(seen: Looks, legal: Sequence[Looks]) -> tuple[str, str]:
    """The kind of problem with what is seen, and a description; nothing where it is legal."""
    for name in seen:
        book, allowed = seen[name], [looks[name] for looks in legal]
        if book in allowed or (book.content == REFUSED and any(a.content == REFUSED for a in allowed)):
            continue
        description = f"{name}: {book.words}; legal: {' | '.join(dict.fromkeys(a.words for a in allowed))}"
        if book.content == NONE:
            return "codebooks that are not there", description
        return ("codebooks that do not open" if book.content == REFUSED else "wrong contents"), description
    return "", ""


class Bench:
    """Scenarios, what each should show, and a folder to try them in."""

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
        """Make what is there before a scenario; the root."""
        copy_tree(self._scratch / "bases" / name, self.root)
        return self.root

    def judge(self, tally: Tally, name: str, acknowledged: int, how: str, *, retry: bool = True) -> None:
        """Count it as a failure if the root does not show what it may, or if another try does not succeed."""
        expected = self.expected[name]
        legal = expected[acknowledged : acknowledged + 2]
        try:
            seen = look(self.root)
        except Exception as error:
            tally.fail("raw errors", f"{name}, {how}: {error!r}")
            return
        kind, description = find_problem(seen, legal)
        if kind:
            tally.fail(kind, f"{name}, {how}: {description}")
            return
        if acknowledged == len(expected) - 1 and (undeleted := self._find_undeleted(name)):
            tally.fail("erased things that are there", f"{name}, {how}: {undeleted}")
        elif retry:
            self.finish(tally, name, how)

    def finish(self, tally: Tally, name: str, how: str) -> None:
        """Try once more without a fault, then compact."""
        try:
            for _ in SCENARIOS[name].act(self.root):
                pass
        except Exception as error:
            tally.fail("refused retries", f"{name}, {how}: {error!r}")
            return
        self.check_settled(tally, name, how)

    def check_settled(self, tally: Tally, name: str, how: str) -> None:
        """Count it as a failure if not all is there, or if something else is left once it is compacted."""
        for what, act in (("after the retry", lambda _: None), ("after compacting", compact)):
            act(self.root)
            kind, description = find_problem(look(self.root), self.expected[name][-1:])
            if kind:
                tally.fail(f"{kind} {what}", f"{name}, {how}: {description}")
                return
        if names := leftovers(self.root):
            tally.fail("leftovers", f"{name}, {how}: {', '.join(names)}")
        if undeleted := self._find_undeleted(name):
            tally.fail("erased things that are there", f"{name}, {how}: {undeleted}")

    def _find_undeleted(self, name: str) -> str:
        """Something that should be gone, and where it is; nothing where all is gone."""
        for path in (path for path in self.root.rglob("*") if path.is_file()):
            content = bytes(path) + path.read_bytes()
            if parts := [part for part in SCENARIOS[name].gone if part in content]:
                return f"{parts[0]!r} in {path}"
        return ""


def make_empty(scratch: Path) -> Path:
    """Make a folder, or empty it."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return scratch
