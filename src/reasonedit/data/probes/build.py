"""The loop that all builders share: what is there is kept, what fails is tried again, what is made is written."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from PIL import Image

from reasonedit.data.built import Built, read_set, set_file
from reasonedit.errors import ReasonEditError
from reasonedit.types import Edit

from .checks import Rejected
from .painter import Painter
from .writer import Writer

TRIES = 3
"""How often a probe is tried, each time with another seed, before it is given up."""


class Spent(Exception):  # noqa: N818 - it is no error
    """No further call is allowed."""


@dataclass
class Budget:
    """How many calls of writer and painter are allowed, and how many were made.

    Attributes:
        limit: The most; any number when not given.
        calls: How many were made.
    """

    limit: int | None = None
    calls: int = 0

    def take(self) -> None:
        """Count a call.

        Raises:
            Spent: It is one too many.
        """
        if self.limit is not None and self.calls >= self.limit:
            raise Spent
        self.calls += 1


@dataclass
class Draft:
    """A probe to be.

    Attributes:
        question: What is asked.
        answer: What is right.
        choices: The choices, if there are any.
        image: A new image; the edit's own when not given.
    """

    question: str
    answer: str
    choices: list[str] | None
    image: Image.Image | None = None


@dataclass
class Report:
    """What a builder did: numbers of probes, and the reasons of what was rejected, with how often each was."""

    group: str
    seed: int
    there: int = 0
    made: int = 0
    rejected: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    complete: bool = True


class Builder(ABC):
    """Makes the probes of one group.

    Attributes:
        group: The group.
        calls: Calls of writer and painter that one try takes.
    """

    group: str
    calls: int

    def __init__(self, writer: Writer | None, painter: Painter | None, budget: Budget) -> None:
        self._writer, self._painter, self._budget = writer, painter, budget

    @abstractmethod
    def make(self, edit: Edit, number: int, seed: int, made_by: dict[str, Any]) -> Draft:
        """Make one probe.

        Args:
            edit: Of this edit.
            number: Which one of the edit's.
            seed: Of all that is drawn.
            made_by: Provenance, to which it adds.

        Raises:
            Rejected: What was made is no probe.
        """

    def write(self, prompt: str, seed: int, made_by: dict[str, Any], max_tokens: int = 128) -> str:
        """The writer's reply, counted and noted."""
        if self._writer is None:
            raise ReasonEditError(f"{self.group} needs a language model: name one with --writer.")
        self._budget.take()
        made_by |= {"writer": self._writer.name, "prompt": prompt}
        made_by["reply"] = self._writer.write(prompt, seed, max_tokens)
        return str(made_by["reply"])

    def paint(self, scene: str, seed: int, made_by: dict[str, Any]) -> Image.Image:
        """The painter's picture, counted and noted."""
        if self._painter is None:
            raise ReasonEditError(f"{self.group} needs a text-to-image pipeline: name one with --painter.")
        self._budget.take()
        made_by |= {"painter": self._painter.name, "scene": scene}
        image = self._painter.paint(scene, seed)
        if image is None:
            raise Rejected("the picture shows nothing")
        return image


def build(
    builder: Builder,
    edits: Sequence[Edit],
    folder: Path,
    seed: int,
    per_edit: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> Report:
    """Make the probes of some edits that are not there yet.

    Each is written as soon as it is made, so that an interruption costs one probe at most; running again goes on.

    Args:
        builder: What makes them.
        edits: The edits.
        folder: Where probe sets are kept.
        seed: The seed of the set.
        per_edit: How many there are to be per edit.
        progress: Called after each.

    Returns:
        What was done; ``complete`` is false where the budget was spent before the end.

    Raises:
        ReasonEditError: A set is damaged, nothing can be written, or writer or painter cannot be used.
    """
    path = set_file(folder, builder.group, seed)
    there = read_set(path)
    done = {(b.edit, b.number) for b in there if any(e.id == b.edit and e.question == b.question for e in edits)}
    report = Report(builder.group, seed, there=len(done))
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        # Written anew, so that nothing follows a line that was cut short.
        whole = path.with_suffix(".new")
        whole.write_text("".join(b.line() for b in there), encoding="utf-8")
        whole.replace(path)
        with path.open("a", encoding="utf-8") as file:
            for edit in edits:
                for number in range(per_edit):
                    if (edit.id, number) not in done:
                        file.write(_one(builder, edit, number, folder, seed, report).line())
                        file.flush()
                    progress()
    except Spent:
        report.complete = False
    except OSError as error:
        raise ReasonEditError(f"The probes cannot be written to '{folder}' ({error.strerror or error}).") from error
    return report


def _one(builder: Builder, edit: Edit, number: int, folder: Path, seed: int, report: Report) -> Built:
    made_by: dict[str, Any] = {}
    rejected: list[str] = []
    for attempt in range(TRIES):
        drawn = _seed(seed, edit.id, builder.group, number, attempt)
        made_by = {"version": metadata.version("reasonedit"), "seed": drawn, "attempt": attempt}
        try:
            draft = builder.make(edit, number, drawn, made_by)
        except Rejected as reason:
            rejected.append(str(reason))
            report.reasons[str(reason)] = report.reasons.get(str(reason), 0) + 1
            if not {"writer", "painter"} & made_by.keys():
                break  # nothing was drawn: it would come out the same again
            continue
        name = None
        if draft.image is not None:
            digest = hashlib.sha256(edit.id.encode()).hexdigest()[:16]  # an id may be no file name
            name = f"images/{builder.group}-{seed}-{digest}-{number}.png"
            draft.image.save(folder / name)
        probe = {"question": draft.question, "answer": draft.answer, "choices": draft.choices, "image": name}
        report.made += 1
        return Built(edit.id, edit.question, number, probe, "", made_by | {"rejected_before": rejected})
    report.rejected += 1
    return Built(edit.id, edit.question, number, None, rejected[-1], made_by | {"rejected_before": rejected[:-1]})


def _seed(*parts: object) -> int:
    """A seed of its own for each try, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1
