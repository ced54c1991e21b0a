"""The dual embedding ``E(i, t) = [v(i) ; w * s(t)]`` (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from reasonedit.embedding.sentence import EMBEDDED, SentenceEncoder
from reasonedit.errors import ReasonEditError
from reasonedit.vlm import VLM, Vision

_REFERENCE_IMAGES = 16


@dataclass(frozen=True)
class EmbeddingConfig:
    """How images and texts are embedded.

    Attributes:
        layer: Name of the vision-side module whose input is read; the last one (the projector) when empty.
        text_weight: w, the weight of the sentence half. 0 leaves the vision half alone.
        encoder: Sentence encoder: ``"embedded"``, a folder or a hub id.
    """

    layer: str = ""
    text_weight: float = 2.0
    encoder: str = EMBEDDED

    def __post_init__(self) -> None:
        if not self.text_weight >= 0:
            raise ReasonEditError(f"text_weight must be 0 or more, not {self.text_weight}.")


class DualEmbedder:
    """Embeds pairs of image and text.

    The vision half is the mean over the tokens that enter one layer, divided by a scale of the model: the root mean
    square distance between the means of 16 fixed patterns. So a distance of 1 is that of two unrelated pictures, and w
    means the same for every model.

    Args:
        vlm: The VLM whose layer is read.
        config: Layer, weight and sentence encoder.
        encoder: The sentence encoder, loaded by ``config.encoder`` when not given.
    """

    def __init__(self, vlm: VLM, config: EmbeddingConfig | None = None, encoder: SentenceEncoder | None = None) -> None:
        config = config or EmbeddingConfig()
        self.vlm = vlm
        self.layer = config.layer or vlm.vision_layers[-1]
        self.encoder = encoder or SentenceEncoder.from_pretrained(config.encoder)
        self.config = EmbeddingConfig(self.layer, config.text_weight, self.encoder.name)
        self._scale: float | None = None

    @property
    def fingerprint(self) -> dict[str, object]:
        """What must agree for stored keys to mean the same."""
        return {**self.vlm.fingerprint, **asdict(self.config)}

    @property
    def scale(self) -> float:
        """Length that the vision half is divided by."""
        if self._scale is None:
            pooled = self._pool(self.vlm.see(reference_images(_REFERENCE_IMAGES), [self.layer]))
            centred = pooled - pooled.mean(0)
            # The mean squared distance of two points is twice their mean squared distance from the mean.
            count = len(pooled)
            self._scale = float((2 * centred.square().sum() / (count - 1)).sqrt())
        return self._scale

    def see(self, images: Sequence[Image.Image]) -> Vision:
        """Run the vision part once, keeping the layer that is read here."""
        return self.vlm.see(images, [self.layer])

    def embed(self, vision: Vision, texts: Sequence[str]) -> Tensor:
        """Embed one text per image.

        Args:
            vision: Images, from :meth:`see`.
            texts: One text per image.

        Returns:
            (texts, width of the layer + width of the encoder), float32, on the CPU.
        """
        if len(vision) != len(texts):
            raise ValueError(f"{len(vision)} images but {len(texts)} texts")
        sentences = self.encoder.encode([self.vlm.clean(t) for t in texts])
        return torch.cat([self._pool(vision) / self.scale, self.config.text_weight * sentences], dim=1)

    def _pool(self, vision: Vision) -> Tensor:
        return vision.layers[self.layer].float().mean(dim=1).cpu()


def reference_images(count: int) -> list[Image.Image]:
    """Fixed colourful patterns, the same on every machine: smooth random fields of 96 x 96 pixels."""
    rng = np.random.default_rng(0)
    images = []
    for _ in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), dtype=np.uint8))
        images.append(coarse.resize((96, 96), Image.Resampling.BICUBIC))
    return images
