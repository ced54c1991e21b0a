"""One vector for an image and a question, as retrieval is commonly built: no statistics, no calibration."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from reasonedit.embedding import SentenceEncoder
from reasonedit.errors import InputError
from reasonedit.evidence.shortlist import ClipShortlist
from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.vision import flat


class JointEmbedder:
    """The embedding of an image and that of a question, each of unit length, one behind the other.

    The image's is what the VLM's own vision part gives (the input of its projector, the mean over the tokens), or the
    image embedding of a CLIP model; the question's is that of a sentence encoder.

    Args:
        vlm: The VLM.
        encoder: Name of the sentence encoder, as in :class:`~reasonedit.embedding.EmbeddingConfig`.
        clip: The open_clip model, as in :class:`~reasonedit.evidence.EvidenceConfig`; the VLM's own when not given.
        image_weight: How much longer the image's half is than the question's.

    Raises:
        ReasonEditError: The VLM has no vision-side layer, or a model cannot be had.
    """

    def __init__(self, vlm: VLM, encoder: str, clip: str | None = None, image_weight: float = 1.0) -> None:
        self.vlm, self.image_weight = vlm, image_weight
        if clip is None and vlm.projector not in vlm.vision_layers:
            raise InputError(f"The VLM '{vlm.name}' has no vision-side layer to read: name a CLIP model (clip=…).")
        self.encoder = SentenceEncoder.from_pretrained(encoder)
        self.clip = ClipShortlist.from_pretrained(clip, vlm.device) if clip is not None else None
        self.layers = [vlm.projector] if self.clip is None else []

    @property
    def fingerprint(self) -> dict[str, str]:
        """What the embeddings depend on, where the image's half is the VLM's own."""
        encoder = str(getattr(self.encoder, "identity", self.encoder.name))  # one without weights has only a name
        return {**self.vlm.key_parts(self.vlm.projector), "encoder": encoder, "image_weight": f"{self.image_weight:g}"}

    def has(self, vision: object) -> bool:
        """Whether a vision pass kept what is read here."""
        return isinstance(vision, Vision) and all(n in seen.layers for seen in vision.images for n in self.layers)

    def see(self, images: Sequence[Image.Image]) -> Vision:
        """Run the vision part once, keeping what is read here."""
        return self.vlm.see(images, self.layers)

    @cached_property
    def width(self) -> int:
        """Numbers of an embedding."""
        blank = [Image.new("RGB", (64, 64))]
        return int(self.embed(self.see(blank), blank, ["What is it?"]).shape[1])

    def embed(
        self, vision: Vision, images: Sequence[Image.Image], questions: Sequence[str], alone: Sequence[bool] = ()
    ) -> Tensor:
        """Embed pairs of image and question.

        Args:
            vision: The images, from :meth:`see`.
            images: The same images.
            questions: One question per image.
            alone: Which questions are asked without a picture: their images' halves are zero.

        Returns:
            (pairs, width), float32, of unit length, on the CPU.
        """
        texts = self.encoder.encode([self.vlm.clean(question) for question in questions])
        pictures = self.image_weight * self._embed_images(vision, images)
        if any(alone):
            pictures[torch.tensor(alone)] = 0
        return torch.nn.functional.normalize(torch.cat([pictures, texts], dim=1), dim=1)

    @torch.inference_mode()
    def _embed_images(self, vision: Vision, images: Sequence[Image.Image]) -> Tensor:
        """The images' halves: (images, width), float32, of unit length, on the CPU."""
        if self.clip is None:
            tokens = vision.layer(self.vlm.projector)
            pooled = torch.stack([flat(of_image).float().mean(0) for of_image in tokens])
        else:
            pixels = torch.stack([self.clip.transform(image) for image in images])
            device = next(self.clip.model.parameters()).device
            pooled = self.clip.model.encode_image(pixels.to(device)).float()
        return torch.nn.functional.normalize(pooled, dim=1).cpu()
