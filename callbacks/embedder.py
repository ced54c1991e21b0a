"""Where a callback gets its embedder from."""

from __future__ import annotations

import lightning as L

from reasonedit.embedding import DualEmbedder, EmbeddingConfig
from reasonedit.errors import ReasonEditError
from reasonedit.vlm import VLM, load_vlm


def embedder_for(pl_module: L.LightningModule, config: EmbeddingConfig | None, model: str | None) -> DualEmbedder:
    """An embedder on the module's own VLM where it has one, else on the one that is named.

    Args:
        pl_module: The module in front of which the callbacks work.
        config: How to embed.
        model: The VLM to load where the module has none (``pl_module.vlm``).

    Raises:
        ReasonEditError: The module has no VLM and none is named.
    """
    vlm = getattr(pl_module, "vlm", None)
    if not isinstance(vlm, VLM):
        if model is None:
            raise ReasonEditError(
                f"{type(pl_module).__name__} has no attribute 'vlm' that is a reasonedit VLM: "
                "give the callback model=… to say which one embeds images and questions."
            )
        vlm = load_vlm(model)
        vlm.model.to(pl_module.device)
    return DualEmbedder(vlm, config)
