"""Which cells may stand in one table: those that agree on all that their figures depend on."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reasonedit.errors import ReasonEditError

About = Mapping[str, Any]
CellRows = tuple[About, Sequence[Mapping[str, Any]]]

RECORDED = ("data", "files", "model", "editor", "beside", "stream", "encoders", "libraries", "code")
"""What a cell must say of itself, so that it can be told from others."""

_Key = tuple[str, str]


@dataclass
class Agreeing:
    """Cells that agree with each other.

    Attributes:
        cells: The cells.
        left_out: One sentence for each kind of cell that is not among them: how many, which, and why.
    """

    cells: list[CellRows]
    left_out: list[str] = field(default_factory=list)


def same(one: About, other: About) -> bool:
    """Whether two cells were made of the same: then one need not be run where the other is there."""
    return _told(one) == _told(other)


def _told(about: About) -> str:
    kept = {key: about.get(key) for key in (*RECORDED, "row", "seed", "varies", "noise")}
    if isinstance(kept["model"], Mapping):  # the same model may lie somewhere else
        kept["model"] = {k: v for k, v in kept["model"].items() if k != "name"}
    return json.dumps(kept, sort_keys=True)


def facts_of(about: About) -> dict[_Key, Any]:
    """All that cells of one table must agree on: what they have in common must have the same value.

    Args:
        about: What a cell says of itself.

    Returns:
        Values by kind and name. Of code each module is a fact of its own, so that editors that share a part of it agree
        on that part; what belongs to a row or a seed bears its name.
    """
    data = json.loads(json.dumps(about["data"]))
    options = data.get("init_args") or {}
    source = (options.get("source") or {}).get("init_args") or {}
    edits = source.pop("edits", None)
    source.pop(about.get("varies", "seed"), None)
    for name in about["stream"]:
        options.pop(name, None)
    row, seed = about["row"], str(about["seed"])
    facts: dict[_Key, Any] = {("edits", ""): edits, ("data", ""): data}
    facts |= {("files", name): value for name, value in about["files"].items()}
    for name, value in about["model"].items():
        parts = value if isinstance(value, Mapping) else {name: value}
        facts |= {("model", part): inner for part, inner in parts.items() if name != "name"}
    facts |= {("encoders", name): value for name, value in about["encoders"].items()}
    facts |= {("libraries", name): value for name, value in about["libraries"].items()}
    facts |= {("code", name): value for name, value in about["code"].items()}
    facts["row", row] = [about["editor"], about["beside"], about.get("noise"), dict(about["stream"])]
    if about.get("asked") is not None:
        facts["asked", seed] = about["asked"]
        facts["copy", about["asked"]] = seed
    return facts


def contradiction(facts: Mapping[_Key, Any], others: Mapping[_Key, Any]) -> _Key | None:
    """The first fact that is another one in the other set; ``None`` where both can stand together."""
    return next((key for key, value in facts.items() if key in others and others[key] != value), None)


def agreeing(cells: Iterable[CellRows], first: Callable[[About], bool] = lambda _: False) -> Agreeing:
    """The newest cells that agree with each other.

    The newest cell is taken, and of the others, from new to old, each that agrees with all that were taken.

    Args:
        cells: Cells in any order.
        first: Those that are taken before all others, whatever their age.

    Raises:
        ReasonEditError: It cannot be told which are the newest, or what any of them was made of.
    """
    known: list[CellRows] = []
    unknown: list[About] = []
    for about, rows in cells:
        if about.get("made") and all(isinstance(about.get(key), Mapping) for key in RECORDED if key != "beside"):
            known.append((about, rows))
        else:
            unknown.append(about)
    if unknown and not known:
        raise ReasonEditError(
            f"{_listed(unknown)} do not say what code, data and model they were made with, so that nobody can tell "
            "whether they belong together: run the experiment again."
        )
    known.sort(key=lambda cell: (bool(first(cell[0])), str(cell[0]["made"])), reverse=True)
    taken: list[CellRows] = []
    agreed: dict[_Key, Any] = {}
    since: dict[_Key, tuple[bool, str]] = {}
    others: dict[str, list[About]] = {}
    for number, (about, rows) in enumerate(known):
        facts, age = facts_of(about), (bool(first(about)), str(about["made"]))
        facts["cell", f"{about['row']} {about['seed']}"] = number  # one of each row and seed
        against = contradiction(facts, agreed)
        if against is None:
            taken.append((about, rows))
            for key, value in facts.items():
                agreed.setdefault(key, value)
                since.setdefault(key, age)
        elif since[against] == age and against[0] not in ("cell", "copy"):
            raise ReasonEditError(
                f"Of the results of '{about['row']}', seed {about['seed']}, and others, which were made at the same "
                f"time ({age[1]}), nobody can tell which count: they are of {_why(against, facts, agreed)}; delete "
                "those that do not belong here."
            )
        else:
            others.setdefault(_why(against, facts, agreed), []).append(about)
    left_out = [f"{_listed(mine)} left out: {why}." for why, mine in others.items()]
    if unknown:
        left_out.append(f"{_listed(unknown)} left out: they do not say what code, data and model they were made with.")
    return Agreeing(taken, left_out)


def _listed(abouts: Sequence[About]) -> str:
    """So many cells, with their rows and seeds."""
    by_row: dict[str, list[Any]] = {}
    for about in abouts:
        by_row.setdefault(str(about["row"]), []).append(about["seed"])
    rows = [f"{row} (seed{'s' if len(s) > 1 else ''} {', '.join(map(str, sorted(s)))})" for row, s in by_row.items()]
    return f"{len(abouts)} result{'s' if len(abouts) > 1 else ''} of {', '.join(rows)}"


def _why(key: _Key, theirs: Mapping[_Key, Any], ours: Mapping[_Key, Any]) -> str:
    """In what a cell differs from those that are shown, in words."""
    kind, name = key
    if kind == "code":
        changed = [n for k, n in theirs if k == "code" and ours.get((k, n), theirs[k, n]) != theirs[k, n]]
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        return f"other code ({changed[0]}{more})"
    return {
        "edits": f"{theirs[key]} edits instead of {ours[key]}",
        "data": "another data set, or other settings of it",
        "files": f"another content of '{name}'",
        "model": f"another model ({name})" if name == "identity" else f"another {name} of the model",
        "encoders": f"another sentence encoder '{name}'",
        "libraries": f"{name} {theirs[key]} instead of {ours[key]}",
        "row": "other settings of the same editor",
        "asked": "other questions with the same seed",
        "copy": f"the very questions of seed {ours[key]} once more",
        "cell": "another result of the same row and seed is there",
    }[kind]


def seeds_missing(cells: Sequence[CellRows]) -> list[str]:
    """One sentence, where some rows were run on fewer seeds than others."""
    seeds = Counter(str(about["row"]) for about, _ in cells)
    most = max(seeds.values(), default=0)
    fewer = [f"{row} ({count})" for row, count in seeds.items() if count < most]
    return [f"Fewer than {most} seeds were run of {', '.join(fewer)}."] if fewer else []
