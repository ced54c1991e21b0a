"""Which layers and weights a selection could as well have chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_SAME_SHARE = 0.0005
"""Shares that differ by no more look the same."""

Score = Mapping[str, Any]


def describe_layer_ties(layers: Sequence[Score], criterion: str, chosen: str) -> str:
    """Which layers do as well as the chosen one, in a sentence; empty where none does.

    By views those tie that find as large a share: then AUC and margin decide. By modularity those tie whose means lie
    within the standard deviations of both.

    Args:
        layers: The scores, as in ``selection.json``.
        criterion: What the layer was chosen by.
        chosen: The layer.
    """
    if any("found" not in s for s in layers):  # of earlier versions, which knew Q alone
        criterion = "modularity"
    best = max((s for s in layers if s["layer"] == chosen), key=lambda s: _rank(s, criterion))
    if criterion == "modularity":
        tied = [s for s in layers if s is not best and best["mean"] - s["mean"] <= best["std"] + s["std"]]
        what, rule = "Q within the standard deviations", "the highest mean was taken"
    else:
        tied = [s for s in layers if s is not best and abs(best["found"] - s["found"]) < _SAME_SHARE]
        what, rule = f"the same share of views found, {best['found']:.3f}", "AUC, then the margin, decided"
    if not tied:
        return ""
    names = list(dict.fromkeys(_name(s, layers) for s in (best, *tied)))
    return f"A tie: {_join(names)} have {what}; {rule}."


def describe_weight_ties(weights: Sequence[Score], chosen: float) -> str:
    """Which values of w balance as well as the chosen one, in a sentence; empty where none does.

    Those tie whose means lie within the standard deviations of both.

    Args:
        weights: The scores, as in ``selection.json``.
        chosen: The chosen w.
    """
    best = next(s for s in weights if s["weight"] == chosen)
    tied = [
        s["weight"]
        for s in weights
        if s is not best and best["balance"] - s["balance"] <= best["balance_std"] + s["balance_std"]
    ]
    if not tied:
        return ""
    values = _join([f"{weight:g}" for weight in sorted([chosen, *tied])])
    return f"A tie: the balances at w = {values} lie within the standard deviations; the highest mean was taken."


def _rank(score: Score, criterion: str) -> tuple[float, ...]:
    return (score["mean"],) if criterion == "modularity" else (score["found"], score["auc"], score["margin"])


def _join(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _name(score: Score, layers: Sequence[Score]) -> str:
    several = len({s["transform"] for s in layers}) > 1
    return f"{score['layer']} ({score['transform']})" if several else str(score["layer"])
