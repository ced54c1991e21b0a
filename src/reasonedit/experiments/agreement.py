"""Which cells may stand in one table: those that agree on all that their figures depend on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasonedit.errors import ConflictError

Record = Mapping[str, Any]
"""What a cell says of itself."""
CellRows = tuple[Record, Sequence[Mapping[str, Any]]]
"""What a cell says of itself, and its predictions."""

RECORDED = ("data", "files", "model", "editor", "beside", "stream", "encoders", "libraries", "code")
"""What a cell must say of itself, so that it can be told from others."""

LAYOUT = ("interleave", "sample", "probed", "check", "alone")
"""Arguments of a stream that say when its questions are asked: rows of one table may differ in them."""

_Key = tuple[str, str]
Facts = Mapping[_Key, Any]


@dataclass
class Agreement:
    """Cells that agree with each other.

    Attributes:
        cells: The cells.
        left_out: One sentence for each kind of cell that is not among them: how many, which, and why.
    """

    cells: list[CellRows]
    left_out: list[str] = field(default_factory=list)


def is_same(one: Record, other: Record) -> bool:
    """Whether two cells are made of the same: then one need not be run where the other is there."""
    return _identity(one) == _identity(other)


def _identity(record: Record) -> str:
    values = {name: record.get(name) for name in (*RECORDED, "row", "seed", "varies", "noise")}
    values["chain"] = record.get("chain", "")  # earlier cells had none
    if isinstance(values["model"], Mapping):  # the same model may lie somewhere else
        values["model"] = {name: value for name, value in values["model"].items() if name != "name"}
    return json.dumps(values, sort_keys=True)


def facts_of(record: Record) -> dict[_Key, Any]:
    """All that cells of one table must agree on: what they have in common must have the same value.

    Args:
        record: What a cell says of itself.

    Returns:
        Values by kind and name. Of code each module is a fact of its own, so that editors that share a part of it agree
        on that part; what belongs to a row or a seed bears its name.
    """
    data = json.loads(json.dumps(record["data"]))
    options = data.get("init_args") or {}
    source = (options.get("source") or {}).get("init_args") or {}
    edits = source.pop("edits", None)
    source.pop(record.get("varies", "seed"), None)
    layout = {name: options.pop(name, None) for name in sorted({*LAYOUT, *record["stream"]})}
    row, seed = record["row"], str(record["seed"])
    facts: dict[_Key, Any] = {("edits", ""): edits, ("data", ""): data}
    facts |= {("files", name): value for name, value in record["files"].items()}
    for name, value in record["model"].items():
        parts = value if isinstance(value, Mapping) else {name: value}
        facts |= {("model", part): inner for part, inner in parts.items() if name != "name"}
    facts |= {("encoders", name): value for name, value in record["encoders"].items()}
    facts |= {("libraries", name): value for name, value in record["libraries"].items()}
    facts |= {("code", name): value for name, value in record["code"].items()}
    facts["row", row] = [record["editor"], record["beside"], record.get("noise"), record.get("chain", ""), layout]
    if record.get("asked") is not None:
        facts["asked", seed] = record["asked"]
        facts["copy", record["asked"]] = seed
    return facts


def contradiction(facts: Facts, others: Facts) -> _Key | None:
    """The first fact that is another one in the other set; ``None`` where both can stand together."""
    return next((key for key, value in facts.items() if key in others and others[key] != value), None)


def select_agreeing(cells: Iterable[CellRows], first: Callable[[Record], bool] = lambda _: False) -> Agreement:
    """The newest cells that agree with each other.

    The newest cell is taken, and of the others, from new to old, each that agrees with all that were taken.

    Args:
        cells: Cells in any order.
        first: Those that are taken before all others, whatever their age.

    Raises:
        ConflictError: It cannot be told which are the newest, or what any of them was made of.
    """
    known, unknown = _split_known(cells)
    known.sort(key=lambda cell: (bool(first(cell[0])), str(cell[0]["made"])), reverse=True)
    taken: list[CellRows] = []
    agreed: dict[_Key, Any] = {}
    ages: dict[_Key, tuple[bool, str]] = {}
    others: dict[str, list[Record]] = {}
    for number, (record, rows) in enumerate(known):
        facts, age = facts_of(record), (bool(first(record)), str(record["made"]))
        facts["cell", f"{record['row']} {record['seed']}"] = number  # one of each row and seed
        differing = contradiction(facts, agreed)
        if differing is None:
            taken.append((record, rows))
            for key, value in facts.items():
                agreed.setdefault(key, value)
                ages.setdefault(key, age)
        elif ages[differing] == age and differing[0] not in ("cell", "copy"):
            raise ConflictError(
                f"Of the results of '{record['row']}', seed {record['seed']}, and others, which were made at the same "
                f"time ({age[1]}), nobody can tell which count: they are of {_reason(differing, facts, agreed)}; "
                "delete those that do not belong here."
            )
        else:
            others.setdefault(_reason(differing, facts, agreed), []).append(record)
    left_out = [f"{_name_cells(records)} left out: {reason}." for reason, records in others.items()]
    if unknown:
        left_out.append(
            f"{_name_cells(unknown)} left out: they do not say what code, data and model they were made with."
        )
    return Agreement(taken, left_out)


def _split_known(cells: Iterable[CellRows]) -> tuple[list[CellRows], list[Record]]:
    """The cells that say what they were made of, and what the others say.

    Raises:
        ConflictError: None says it.
    """
    known: list[CellRows] = []
    unknown: list[Record] = []
    for record, rows in cells:
        if record.get("made") and all(isinstance(record.get(key), Mapping) for key in RECORDED if key != "beside"):
            known.append((record, rows))
        else:
            unknown.append(record)
    if unknown and not known:
        raise ConflictError(
            f"{_name_cells(unknown)} do not say what code, data and model they were made with, so that nobody can tell "
            "whether they belong together: run the experiment again."
        )
    return known, unknown


def _name_cells(records: Sequence[Record]) -> str:
    """So many cells, with their rows and seeds."""
    by_row: dict[str, list[Any]] = {}
    for record in records:
        by_row.setdefault(str(record["row"]), []).append(record["seed"])
    rows = [f"{row} ({_name_seeds(seeds)})" for row, seeds in by_row.items()]
    return f"{len(records)} result{'s' if len(records) > 1 else ''} of {', '.join(rows)}"


def _name_seeds(seeds: Collection[int]) -> str:
    """``"seed 0"``, ``"seeds 0, 1"``."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, sorted(seeds)))}"


def _reason(key: _Key, facts: Facts, agreed: Facts) -> str:
    """In what a cell differs from those that are shown, in words."""
    kind, name = key
    if kind == "code":
        changed = [n for k, n in facts if k == "code" and agreed.get((k, n), facts[k, n]) != facts[k, n]]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"other code ({changed[0]}{more})"
    return {
        "edits": f"{facts[key]} edits instead of {agreed[key]}",
        "data": "another data set, or other settings of it",
        "files": f"another content of '{name}'",
        "model": f"another model ({name})" if name == "identity" else f"another {name} of the model",
        "encoders": f"another sentence encoder '{name}'",
        "libraries": f"{name} {facts[key]} instead of {agreed[key]}",
        "row": "other settings of the same editor",
        "asked": "other questions with the same seed",
        "copy": f"the very questions of seed {agreed[key]} once more",
        "cell": "another result of the same row and seed is there",
    }[kind]


def compare_seeds(cells: Sequence[CellRows]) -> list[str]:
    """One sentence, where some rows were run on other seeds than most: which rows, and on which seeds."""
    by_row: dict[str, set[int]] = {}
    for record, _ in cells:
        by_row.setdefault(str(record["row"]), set()).add(record["seed"])
    rows_of = Counter(tuple(sorted(seeds)) for seeds in by_row.values())
    if len(rows_of) < 2:
        return []
    usual = max(rows_of, key=lambda seeds: (rows_of[seeds], len(seeds)))
    others = [f"{row} ({_name_seeds(seeds)})" for row, seeds in by_row.items() if tuple(sorted(seeds)) != usual]
    return [f"Not all rows are of {_name_seeds(usual)}: {', '.join(others)}."]
