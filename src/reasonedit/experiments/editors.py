"""Every editor that is compared, and what makes it for a model."""

from __future__ import annotations

from reasonedit.design import PAPER

from .cells import MakeCallbacks
from .making import baseline, editing
from .mend_network import TrainedMEND
from .search_spaces import SPACES
from .serac_network import TrainedSERAC
from .tuned import TUNED_FILE, read_tuned
from .wise_unrelated import InformedWISE

OURS = "reasonedit"
PAPER_ROW = "reasonedit-paper"
OWN = tuple(f"{name}{tuned}" for name in (OURS, PAPER_ROW) for tuned in ("", "-tuned"))
"""Rows of ReasonEdit, whatever its design."""
ORACLES = ("ike-told", "ike-cot-told")
"""Rows that are told which edit a question belongs to: bounds, and no editors."""
ALONE = {name: f"{name}-alone" for name in ("ft", "lora", "mend")}
"""Editors that are published one edit at a time, and their rows of that kind."""
NO_RIVALS = (*ORACLES, *ALONE.values())
"""Rows that stand beside the others, and that nothing is compared with."""

_AS_PUBLISHED: dict[str, tuple[str, MakeCallbacks]] = {
    "none": ("none", baseline(".unedited.Unedited")),
    "ft": ("FT", baseline(".finetune.FineTuning")),
    "lora": ("LoRA", baseline(".lora.LoRA")),
    "mend": ("MEND", lambda lab: [TrainedMEND(lab)]),
    "serac": ("SERAC", lambda lab: [TrainedSERAC(lab)]),
    "wise": ("WISE", lambda lab: [InformedWISE(lab)]),
    "grace": ("GRACE", baseline(".grace.GRACE")),
    "grace-cot": ("GRACE-CoT", baseline(".grace.GRACE", reasoning=True)),
    "balancedit": ("BalancEdit", baseline(".balancedit.BalancEdit")),
    "ike": ("IKE", baseline(".ike.IKE")),
    "ike-cot": ("IKE-CoT", baseline(".ike.IKE", reasoning=True)),
    "rag": ("RAG", baseline(".rag.RAG")),
    "rag-cot": ("RAG-CoT", baseline(".rag.RAG", reasoning=True)),
    "ike-told": ("IKE (told the edit)", baseline(".ike.IKE", oracle=True)),
    "ike-cot-told": ("IKE-CoT (told the edit)", baseline(".ike.IKE", reasoning=True, oracle=True)),
    PAPER_ROW: ("ReasonEdit, the paper's design", editing(PAPER)),
    OURS: ("ReasonEdit", editing(lambda design: design)),
}


def _with_tuned(editors: dict[str, tuple[str, MakeCallbacks]]) -> dict[str, tuple[str, MakeCallbacks]]:
    """Behind each editor itself with the settings that were tuned, where they are others than those it has."""
    tuned, rows = read_tuned(TUNED_FILE), {}
    for name, (title, make) in editors.items():
        rows[name] = (title, make)
        if name in tuned and tuned[name] != SPACES[name].tries[0]:
            rows[f"{name}-tuned"] = (f"{title} (tuned)", SPACES[name].make(tuned[name]))
    return rows


EDITORS: dict[str, tuple[str, MakeCallbacks]] = _with_tuned(_AS_PUBLISHED)
"""Every editor: what names it, its title, and what makes it. A new one is one new line above."""
