"""Which layer tells pictures like the user's apart (ours)."""

from __future__ import annotations

from reasonedit.embedding import EmbeddingConfig
from reasonedit.embedding.layer_choice import score_layers
from reasonedit.errors import InputError
from reasonedit.evidence.windows import shrink
from reasonedit.vlm import VLM

from .measure import AT_ONCE, check_count
from .pictures import CalibrationPictures


def choose_layer(vlm: VLM, pictures: CalibrationPictures, config: EmbeddingConfig, seed: int = 0) -> dict[str, float]:
    """How well two augmented views of a picture find each other in each layer, the best first.

    Args:
        vlm: The VLM.
        pictures: The pictures.
        config: How the layers' tokens are pooled and transformed.
        seed: Seed of the views.

    Raises:
        InputError: There are too few pictures, or the transform learns from labels.
    """
    if config.transform == "discriminant":
        raise InputError("A layer is chosen without labels: use the transform raw or whitened.")
    images = [shrink(image) for part in pictures.parts(AT_ONCE) for image in part]
    check_count(len(images), pictures)
    scores = score_layers(vlm, images, transforms=(config.transform,), pooling=config.pooling, seed=seed)
    ranked = sorted(scores, key=lambda score: score.rank, reverse=True)
    return {score.layer: score.found for score in ranked}
