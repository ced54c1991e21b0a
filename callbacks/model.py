"""Which VLM a callback works with."""

from __future__ import annotations

import lightning as L

from reasonedit.errors import ReasonEditError
from reasonedit.vlm import VLM, load_vlm


def vlm_for(pl_module: L.LightningModule, model: str | None) -> VLM:
    """The module's own VLM (``pl_module.vlm``) where it has one, else the one that is named.

    Args:
        pl_module: The module in front of which the callbacks work.
        model: The VLM to load where the module has none.

    Raises:
        ReasonEditError: The module has no VLM and none is named.
    """
    vlm = getattr(pl_module, "vlm", None)
    if isinstance(vlm, VLM):
        return vlm
    if model is None:
        raise ReasonEditError(
            f"{type(pl_module).__name__} has no attribute 'vlm' that is a reasonedit VLM: "
            "give the callback model=… to say which one embeds images and questions."
        )
    vlm = load_vlm(model)
    if vlm.movable:
        vlm.model.to(pl_module.device)
    return vlm
