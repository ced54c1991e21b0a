"""The names of settings in earlier versions, by which codebooks and designs that were saved then are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reasonedit.errors import InputError

_RENAMED = {
    "embedding": {"cells": "region_source"},
    "evidence": {"focus": "single_window"},
    "writing": {"questions": "question_keys"},
    "retrieval": {
        "answers": "k_answers",
        "count": "k_counts",
        "doubt": "visual_margin",
        "each": "gate_per_fact",
        "regions": "query_regions",
        "sight": "visual_match",
    },
}
"""For each part of a design the former names of its settings, with the names of today."""

_REMOVED: dict[str, dict[str, Any]] = {"writing": {"patches": "crop", "samples": 1, "paraphraser": "rules"}}
"""Settings that are gone, with the one value under which keys were made as they are made today."""

_REMOVED_VALUES = {"embedding": {"transform": "centred"}}
"""Values of settings that are gone."""


TODAY = {former: name for renamed in _RENAMED.values() for former, name in renamed.items()}
"""The name of today for each former one."""


def current_design(values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a design by their names of today.

    Args:
        values: A design as nested dicts; parts that are no dict stay as they are.

    Raises:
        InputError: It has a setting that is gone, with a value under which keys were made in another way, or a setting
            by both of its names.
    """
    return {
        part: _current(part, settings) if part in _RENAMED and isinstance(settings, Mapping) else settings
        for part, settings in values.items()
    }


def current_fingerprint(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint of a codebook's keys by the names of today; ``values`` may have former ones."""
    renamed = _RENAMED["embedding"]
    return {renamed.get(name, name): value for name, value in values.items()}


def _current(part: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    removed, values = _REMOVED.get(part, {}), _REMOVED_VALUES.get(part, {})
    for name in settings:
        if settings[name] != removed.get(name, settings[name]) or (name in values and settings[name] == values[name]):
            raise InputError(
                f"The design sets '{name}' to {settings[name]!r}, which this version no longer has: leave it out. "
                "If it is a codebook's, 'reasonedit codebook migrate --design' embeds the edits again with another one."
            )
    twice = next((former for former, name in _RENAMED[part].items() if {former, name} <= settings.keys()), None)
    if twice is not None:
        raise InputError(f"The design sets both '{twice}' and '{TODAY[twice]}', one setting: keep the latter.")
    return {_RENAMED[part].get(name, name): value for name, value in settings.items() if name not in removed}
