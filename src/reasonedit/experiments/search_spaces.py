"""The settings of each editor that are tried when it is tuned: as many for each, ours included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from reasonedit.callbacks.baselines.ike import WORDINGS
from reasonedit.design import PAPER, Design

from .cells import MakeCallbacks
from .making import baseline, editing
from .mend_network import TrainedMEND
from .serac_network import TrainedSERAC
from .wise_unrelated import InformedWISE

Values = Mapping[str, Any]
BUDGET = 8
"""How many settings of each editor are tried."""


@dataclass(frozen=True)
class SearchSpace:
    """What is tried of an editor.

    Attributes:
        title: What the editor is called.
        make: Makes it with some values.
        tries: The values; the first are those that it has in the row that bears its own name.
    """

    title: str
    make: Callable[[Values], MakeCallbacks]
    tries: tuple[Values, ...]


def _grid(**values: tuple[Any, ...]) -> tuple[Values, ...]:
    """All combinations; the first is that of the first values."""
    return tuple(dict(zip(values, chosen, strict=True)) for chosen in product(*values.values()))


def _baseline(path: str, **fixed: Any) -> Callable[[Values], MakeCallbacks]:
    return lambda values: baseline(path, **fixed, **values)


def _mend(values: Values) -> MakeCallbacks:
    return lambda lab: [TrainedMEND(lab, **values)]


def _serac(values: Values) -> MakeCallbacks:
    return lambda lab: [TrainedSERAC(lab, **values)]


def _wise(values: Values) -> MakeCallbacks:
    return lambda lab: [InformedWISE(lab, **values)]


def _reasonedit(base: Callable[[Design], Design]) -> Callable[[Values], MakeCallbacks]:
    """ReasonEdit with another weight of the sentence half, as a multiple of its own, and another p of the gate."""

    def make(values: Values) -> MakeCallbacks:
        def changed(design: Design) -> Design:
            design = base(design)
            weight = design.embedding.text_weight * values["weight_times"]
            return replace(
                design,
                embedding=replace(design.embedding, text_weight=weight),
                retrieval=replace(design.retrieval, percentile=values["percentile"]),
            )

        return editing(changed)

    return make


_RADII = _grid(layer=(-6, -2), epsilon=(1.0, 10.0, 20.0, 40.0))
_DEMONSTRATIONS = _grid(wording=tuple(WORDINGS)[:2], k=(3, 1, 5, 8))
_RETRIEVED = _grid(image_weight=(1.0, 3.0), k=(3, 1, 5, 8))
_WEIGHTS = (1.0, 0.7, 1.4, 2.0)

SPACES: dict[str, SearchSpace] = {
    "ft": SearchSpace("FT", _baseline(".finetune.FineTuning"), _grid(layer=(-1, -6), steps=(50, 10), lr=(1e-4, 1e-3))),
    "lora": SearchSpace("LoRA", _baseline(".lora.LoRA"), _grid(rank=(8, 2), steps=(50, 10), lr=(1e-3, 1e-4))),
    "mend": SearchSpace("MEND", _mend, _grid(edit_weight=(0.1, 1.0), scale=(1.0, 0.3, 0.1, 0.03))),
    "serac": SearchSpace("SERAC", _serac, _grid(scope=("near", "all"), threshold=(0.5, 0.3, 0.7, 0.9))),
    "wise": SearchSpace("WISE", _wise, _grid(layer=(-6, -2), margin=(0.2, 0.1), ratio=(0.2, 0.5))),
    "grace": SearchSpace("GRACE", _baseline(".grace.GRACE"), _RADII),
    "grace-cot": SearchSpace("GRACE-CoT", _baseline(".grace.GRACE", reasoning=True), _RADII),
    "balancedit": SearchSpace(
        "BalancEdit", _baseline(".balancedit.BalancEdit"), _grid(layer=(-6, -2), alpha=(0.05, 0.15, 0.3, 0.5))
    ),
    "ike": SearchSpace("IKE", _baseline(".ike.IKE"), _DEMONSTRATIONS),
    "ike-cot": SearchSpace("IKE-CoT", _baseline(".ike.IKE", reasoning=True), _DEMONSTRATIONS),
    "rag": SearchSpace("RAG", _baseline(".rag.RAG"), _RETRIEVED),
    "rag-cot": SearchSpace("RAG-CoT", _baseline(".rag.RAG", reasoning=True), _RETRIEVED),
    "reasonedit-paper": SearchSpace(
        "ReasonEdit, the paper's design",
        _reasonedit(lambda _: PAPER),
        _grid(weight_times=_WEIGHTS, percentile=(10.0, 25.0)),
    ),
    "reasonedit": SearchSpace(
        "ReasonEdit", _reasonedit(lambda design: design), _grid(weight_times=_WEIGHTS, percentile=(25.0, 10.0))
    ),
}
"""The space of each editor by the name of its row. It is all that a new editor needs to be tuned with the others."""


def describe_values(values: Values) -> str:
    """A try in words: ``"layer -6, epsilon 1"``."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value:g}" if isinstance(value, (int, float)) else f"{name} {value!r}"
        for name, value in values.items()
    )


def row_of_try(editor: str, number: int) -> str:
    """The name of the row of an editor's try."""
    return f"{editor}-{number}"
