"""Which VLM a callback works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L

from reasonedit.errors import InputError, NotServedError
from reasonedit.vlm import VLM, LocalVLM, load_vlm

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def own_vlm(pl_module: L.LightningModule) -> VLM | None:
    """The module's VLM (``pl_module.vlm``), if it is one of this package."""
    vlm = getattr(pl_module, "vlm", None)
    return vlm if isinstance(vlm, VLM) else None


def vlm_for(pl_module: L.LightningModule, model: str | None, loaded: VLM | None = None) -> VLM:
    """The module's own VLM, or the one that is named if it has none.

    Args:
        pl_module: The module that the callbacks work with.
        model: The VLM to load if the module has none.
        loaded: That VLM, if an earlier run loaded it.

    Raises:
        InputError: The module has no VLM and none is named.
    """
    vlm = own_vlm(pl_module)
    if vlm is not None:
        return vlm
    if model is None:
        raise InputError(
            f"{type(pl_module).__name__} has no attribute 'vlm' that is a reasonedit VLM: "
            "give it vlm = reasonedit.vlm.as_vlm(model, processor), or say by Codebook(model=…) which one embeds "
            "images and questions."
        )
    return loaded or load_vlm(model)


def with_weights(vlm: VLM, who: str) -> LocalVLM:
    """A VLM whose weights are on this machine.

    Args:
        vlm: The VLM.
        who: What needs them.

    Raises:
        NotServedError: They are behind an endpoint.
    """
    if not isinstance(vlm, LocalVLM):
        raise NotServedError(
            f"{who} needs the weights of the VLM, which '{vlm.name}' keeps behind its endpoint: name a VLM on this "
            "machine."
        )
    return vlm


def second_model_note(pl_module: L.LightningModule, vlm: VLM) -> str | None:
    """A note for a user whose module answers with one VLM while another one embeds; ``None`` if it has none.

    Args:
        pl_module: The module.
        vlm: The VLM that embeds.
    """
    other = _vlm_in(pl_module)
    if other is None:
        return None
    return (
        f"{type(pl_module).__name__} answers with a model of its own ({type(other).__name__} "
        f"'{other.config.name_or_path}'), while images and questions are embedded by '{vlm.name}', loaded beside it: "
        "to use one for both, give the module an attribute vlm = reasonedit.vlm.as_vlm(model, processor)."
    )


def _vlm_in(pl_module: L.LightningModule) -> PreTrainedModel | None:
    """The first model of transformers in a module that has a vision part."""
    from transformers import PreTrainedModel

    models = (m for m in pl_module.modules() if isinstance(m, PreTrainedModel))
    return next((m for m in models if hasattr(m.config, "vision_config")), None)
