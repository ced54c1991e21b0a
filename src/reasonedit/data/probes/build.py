"""The loop that all builders share: what is there stays, what fails is tried again, what is made is written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from reasonedit.data.built_probes import ProbeLine, probe_file, read_probe_lines
from reasonedit.errors import LockedError, MismatchError, UnavailableError
from reasonedit.types import Edit

from .builder import Builder, Spent
from .checks import Rejected

TRIES = 3
"""How often a probe is tried, each time with another seed, before it is given up."""


@dataclass
class BuildReport:
    """What a builder did.

    Attributes:
        group: The group of probes.
        seed: The seed of the set.
        existing: How many probes were there before.
        built: How many were built.
        given_up: How many were given up.
        reasons: Why tries were rejected, with how often each reason was given.
        complete: Whether the budget lasted to the end.
    """

    group: str
    seed: int
    existing: int = 0
    built: int = 0
    given_up: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    complete: bool = True


def build(
    builder: Builder,
    edits: Sequence[Edit],
    folder: Path,
    seed: int,
    per_edit: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> BuildReport:
    """Make the probes of some edits that are not there yet.

    Each is written as soon as it is made, so that an interruption costs one probe at most; running again goes on.

    Args:
        builder: What makes them.
        edits: The edits.
        folder: The folder of the probe sets.
        seed: The seed of the set.
        per_edit: How many there are to be per edit.
        progress: Called after each.

    Returns:
        What was done; ``complete`` is false where the budget was spent before the end.

    Raises:
        InputError: A set is damaged, or the builder needs a writer or painter that was not given.
        MismatchError: The set is about the errors of another VLM.
        LockedError: Another process builds the same set.
        UnavailableError: Nothing can be written, or writer or painter cannot be used.
    """
    path = probe_file(folder, builder.group, seed)
    try:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.stem}.lock", timeout=0):
            return _build_set(builder, edits, path, seed, per_edit, progress)
    except Timeout as error:
        raise LockedError(f"Another process builds the probe set '{path}': wait until it ends.") from error
    except OSError as error:
        raise UnavailableError(f"The probes cannot be written to '{folder}' ({error.strerror or error}).") from error


def _build_set(
    builder: Builder, edits: Sequence[Edit], path: Path, seed: int, per_edit: int, progress: Callable[[], None]
) -> BuildReport:
    lines = read_probe_lines(path)
    if builder.about_errors:
        other = next((vlm for b in lines if (vlm := b.made_by.get("vlm", builder.vlm.name)) != builder.vlm.name), None)
        if other is not None:
            raise MismatchError(
                f"The probes in '{path}' are about the errors of '{other}', not of '{builder.vlm.name}': name another "
                "folder."
            )
    by_id = {edit.id: edit for edit in edits}
    done = {(b.edit, b.number) for b in lines if b.edit in by_id and b.is_about(by_id[b.edit], builder.group)}
    report = BuildReport(builder.group, seed, existing=len(done))
    # Written anew, so that nothing follows a line that was cut short.
    rewritten = path.with_suffix(".new")
    rewritten.write_text("".join(line.to_json() for line in lines), encoding="utf-8")
    rewritten.replace(path)
    with path.open("a", encoding="utf-8") as file:
        for edit in edits:
            for number in range(per_edit):
                if (edit.id, number) not in done:
                    try:
                        line = _build_one(builder, edit, number, path.parent, seed, report)
                    except Spent:
                        report.complete = False
                        return report
                    file.write(line.to_json())
                    file.flush()
                progress()
    return report


def _build_one(builder: Builder, edit: Edit, number: int, folder: Path, seed: int, report: BuildReport) -> ProbeLine:
    made_by: dict[str, Any] = {}
    rejected: list[str] = []
    for attempt in range(TRIES):
        try_seed = _seed_of(seed, edit.id, builder.group, number, attempt)
        made_by = {"version": metadata.version("reasonedit"), "seed": try_seed, "attempt": attempt}
        try:
            draft = builder.make(edit, number, try_seed, made_by)
        except Rejected as reason:
            rejected.append(str(reason))
            report.reasons[str(reason)] = report.reasons.get(str(reason), 0) + 1
            if not {"writer", "painter"} & made_by.keys():
                break  # nothing was drawn: it would come out the same again
            continue
        image = None
        if draft.image is not None:
            digest = hashlib.sha256(edit.id.encode()).hexdigest()[:16]  # an id may be no file name
            image = f"images/{builder.group}-{seed}-{digest}-{number}.png"
            draft.image.save(folder / image)
        probe = {"question": draft.question, "answer": draft.answer, "choices": draft.choices, "image": image}
        report.built += 1
        return ProbeLine(edit.id, edit.question, number, probe, "", made_by | {"rejected_before": rejected})
    report.given_up += 1
    return ProbeLine(edit.id, edit.question, number, None, rejected[-1], made_by | {"rejected_before": rejected[:-1]})


def _seed_of(*parts: object) -> int:
    """A seed of its own for each try, the same on every machine."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, parts)).encode()).digest()[:4], "big") >> 1
