"""The dual embedding ``E(i, t) = [v(i) ; w * s(t)]`` (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from PIL import Image
from torch import Tensor

import reasonedit.vlm
from reasonedit.boxes import WHOLE, Box
from reasonedit.dependencies import code_version
from reasonedit.embedding.sentence import EMBEDDED, SentenceEncoder
from reasonedit.errors import ReasonEditError
from reasonedit.evidence.windows import crop, shrink
from reasonedit.finite import finite
from reasonedit.registry import lookup
from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.device_memory import run_in_parts
from reasonedit.vlm.vision import Seen, flat

from .reference import is_named, reference_images, reference_things
from .statistics_cache import load_or_take
from .vision import POOLINGS, QUERY_REGIONS, TRANSFORMS, Gathered, Statistics, pool

NO_LAYER = "none"
REGION_SOURCES = ("pooled", "crops")
KEYS_MADE = 2
"""Counts the ways in which keys were ever made from what they depend on: another way makes other keys."""
_AT_ONCE = 32


@dataclass(frozen=True)
class EmbeddingConfig:
    """How images and texts are embedded.

    Attributes:
        layer: Name of the vision-side layer whose input is read, ``"image_features"`` (what enters the language model)
            or a layer of the language model (which then runs, up to that layer, on image and text); the projector when
            empty, ``"none"`` leaves the sentence half alone.
        text_weight: w, the weight of the sentence half. 0 leaves the vision half alone.
        encoder: Sentence encoder: ``"embedded"``, a folder or a hub id.
        pooling: ``"mean"`` over tokens, or the ``"last"`` token.
        transform: Of the pooled tokens: ``"raw"``; ``"whitened"``: in the 64 principal directions of the tokens of
            unrelated pictures, each to unit variance, then to unit length; or ``"discriminant"``: in the 64 directions
            that best tell one thing from another, then to unit length.
        reference: The unrelated pictures: ``"patterns"``, ``"world"`` or a folder of images; for ``"discriminant"`` one
            with a folder per thing in it.
        region_source: The nine query regions of an image are ``"pooled"`` from the tokens of its one vision pass, or
            pass the vision part by themselves, as ``"crops"``: nine more passes, in which small things are large.

    Raises:
        ReasonEditError: A value is out of range.
    """

    layer: str = ""
    text_weight: float = 2.0
    encoder: str = EMBEDDED
    pooling: str = "mean"
    transform: str = "raw"
    reference: str = "patterns"
    region_source: str = "pooled"

    def __post_init__(self) -> None:
        if not self.text_weight >= 0:
            raise ReasonEditError(f"text_weight must be 0 or more, not {self.text_weight}.")
        for name, known in (("pooling", POOLINGS), ("transform", TRANSFORMS), ("region_source", REGION_SOURCES)):
            if getattr(self, name) not in known:
                raise ReasonEditError(f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'.")
        if self.layer == NO_LAYER and self.text_weight == 0:
            raise ReasonEditError("Without a layer and with text_weight 0 nothing is left to embed.")


class DualEmbedder:
    """Embeds pairs of image and text.

    The vision half is divided by the root mean square distance between unrelated pictures. So a distance of 1 is that
    of two unrelated pictures, and w means the same for every model, layer and transform.

    Args:
        vlm: The VLM whose layer is read.
        config: Layer, pooling, transform, weight and sentence encoder.
        encoder: The sentence encoder, loaded by ``config.encoder`` when not given.
        statistics: Those of the reference pictures, when they are known already.

    Raises:
        ReasonEditError: The model has no such layer.
    """

    def __init__(
        self,
        vlm: VLM,
        config: EmbeddingConfig | None = None,
        encoder: SentenceEncoder | None = None,
        statistics: Statistics | None = None,
    ) -> None:
        config = config or EmbeddingConfig()
        self.vlm = vlm
        self.layer = config.layer or vlm.projector
        self.reads_language = self.layer in vlm.language_layers
        if self.layer not in (NO_LAYER, *vlm.language_layers):
            vlm.check_layer(self.layer)
        if config.transform == "discriminant" and self.layer == NO_LAYER:
            raise ReasonEditError("Without a layer there is nothing to transform: 'discriminant' needs one.")
        if self.reads_language and config.transform != "raw":
            raise ReasonEditError(f"The layer '{self.layer}' reads texts too: only the transform 'raw' goes with it.")
        self.encoder = encoder or SentenceEncoder.from_pretrained(config.encoder)
        self.config = EmbeddingConfig(**{**asdict(config), "layer": self.layer, "encoder": self.encoder.name})
        self._statistics = statistics
        # A folder is read later, maybe from another working folder.
        self._reference = config.reference if is_named(config.reference) else os.path.abspath(config.reference)

    @property
    def fingerprint(self) -> dict[str, object]:
        """What must agree for stored keys to mean the same: the halves that there are, and how they are put together.

        Of the VLM it is what the layer depends on (see :mod:`reasonedit.vlm.identity`), of the sentence encoder its
        weights and its tokenizer, whatever it is called.
        """
        made = {k: v for k, v in asdict(self.config).items() if k != "encoder"}
        seeing = self.vlm.key_parts(self.layer) if self.layer != NO_LAYER else {}
        telling = {"sentence_encoder": self._encoder_identity} if self.config.text_weight else {}
        return {"keys_made": KEYS_MADE, **seeing, **telling, **made}

    @property
    def _encoder_identity(self) -> str:
        return str(getattr(self.encoder, "identity", self.encoder.name))  # one that is no model has a name alone

    @property
    def layers(self) -> list[str]:
        """Vision-side layers that :meth:`see` keeps."""
        return [] if self.reads_language or self.layer == NO_LAYER else [self.layer]

    @property
    def statistics(self) -> Statistics:
        """Statistics of the reference pictures, taken when they are first needed."""
        if self._statistics is None:
            with self.vlm.guard:  # once, whoever needs them
                if self._statistics is None:
                    self._statistics = self._find()
        return self._statistics

    def _find(self) -> Statistics:
        c = self.config
        if not is_named(c.reference):  # a folder may change
            return self._take()
        parts = self.vlm.key_parts(c.layer) if c.layer != NO_LAYER else {}
        offered = lookup("references", c.reference)  # the code that makes the pictures counts as well
        code = code_version(reasonedit.vlm, DualEmbedder, *([offered] if offered is not None else []))
        models = [*(f"{k} {v}" for k, v in parts.items()), str(self.vlm.model.dtype), str(self.vlm.device)]
        settings = [c.layer, c.pooling, c.transform, c.reference, c.region_source]
        return load_or_take([*models, *settings, code], self._take)

    def _take(self) -> Statistics:
        images, gathered = reference_images(self._reference), Gathered()

        def gather(part: list[int]) -> None:
            vision = self.see([images[i] for i in part], regions=True)
            if self.reads_language:
                read = self.vlm.language_states(vision, ["Describe this image."] * len(vision), self.layer)
            else:
                read = vision.layer(self.layer)
            for tokens, seen in zip(read, vision.images, strict=True):
                halves = torch.stack([self._crop_half(seen, box) for box in QUERY_REGIONS]) if seen.regions else None
                gathered.add(flat(tokens)[-1:] if self.config.pooling == "last" else tokens, halves)

        run_in_parts(range(len(images)), _AT_ONCE, gather)
        if self.config.transform != "discriminant":
            return Statistics.of(gathered, self.config.transform)
        pictures, things = reference_things(self._reference)
        pooled: list[Tensor] = []

        def look(part: list[int]) -> None:
            vision = self.vlm.see([pictures[i] for i in part], self.layers)
            pooled.extend(self._pooled(tokens) for tokens in vision.layer(self.layer))

        run_in_parts(range(len(pictures)), _AT_ONCE, look)
        return Statistics.of(gathered, self.config.transform, (torch.stack(pooled), torch.tensor(things)))

    def see(self, images: Sequence[Image.Image], *, regions: bool = False) -> Vision:
        """Run the vision part, keeping the layer that is read here.

        Args:
            images: The images, each of which passes once.
            regions: Whether the query regions are going to be read: where they are crops, each of them passes as well.
        """
        vision = self.vlm.see(images, self.layers)
        if regions and self._crops_regions:
            crops = [crop(shrink(image), box) for image in images for box in QUERY_REGIONS]
            seen: list[Seen] = []

            def look(part: list[int]) -> None:
                seen.extend(self.vlm.see([crops[i] for i in part], self.layers).images)

            run_in_parts(range(len(crops)), _AT_ONCE, look)
            of_image = iter(seen)
            for image in vision.images:
                image.regions = {box: next(of_image) for box in QUERY_REGIONS}
        return vision

    def has(self, vision: object, *, regions: bool = False) -> bool:
        """Whether a vision pass kept what is read here; arguments as for :meth:`see`."""
        if not isinstance(vision, Vision) or not all(n in seen.layers for seen in vision.images for n in self.layers):
            return False
        return not (regions and self._crops_regions) or all(seen.regions for seen in vision.images)

    @property
    def _crops_regions(self) -> bool:
        return self.config.region_source == "crops" and bool(self.layers)

    def texts(self, texts: Sequence[str]) -> Tensor:
        """Sentence halves: (texts, width of the encoder), w included."""
        return self.config.text_weight * self.encoder.encode([self.vlm.clean(t) for t in texts])

    def regions(self, vision: Vision, boxes: Sequence[Sequence[Box]]) -> list[Tensor]:
        """Vision halves of regions, pooled from the tokens of one pass.

        Args:
            vision: Images, from :meth:`see`.
            boxes: For each image its regions.

        Returns:
            For each image (boxes, D), float32 on the CPU.

        Raises:
            ReasonEditError: The layer has no regions.
        """
        if self.layer == NO_LAYER:
            return [torch.zeros(len(mine), 0) for mine in boxes]
        if self.reads_language or (self.config.pooling == "last" and any(b != WHOLE for mine in boxes for b in mine)):
            raise ReasonEditError(f"The layer '{self.layer}' with pooling '{self.config.pooling}' has no regions.")
        found = []
        for seen, mine in zip(vision.images, boxes, strict=True):
            read = seen.layers[self.layer].float().cpu()
            if self.config.pooling == "last":
                pooled = flat(read)[-1:].expand(len(mine), -1)
            else:
                pooled = pool(read, mine, seen.view) if mine else flat(read)[:0]
                for i, box in enumerate(mine):
                    if box in seen.regions:
                        pooled[i] = self._crop_half(seen, box)
            halves = self.statistics.apply(pooled, self.config.transform)
            found.append(finite(halves, f"The activations of the layer '{self.layer}'"))
        return found

    def embed(self, vision: Vision, texts: Sequence[str]) -> Tensor:
        """Embed one text with each whole image.

        Args:
            vision: Images, from :meth:`see`.
            texts: One text per image.

        Returns:
            (texts, width of the layer + width of the encoder), float32, on the CPU.
        """
        if len(vision) != len(texts):
            raise ValueError(f"{len(vision)} images but {len(texts)} texts")
        if self.reads_language:
            states = self.vlm.language_states(vision, texts, self.layer)
            seen = torch.stack([self._pooled(s) for s in states]) / self.statistics.scale
            finite(seen, f"The activations of the layer '{self.layer}'")
        else:
            seen = torch.cat(self.regions(vision, [[WHOLE]] * len(vision)))
        return torch.cat([seen, self.texts(texts)], dim=1)

    @property
    def width(self) -> int:
        """Width of the vision half."""
        if self.layer == NO_LAYER:
            return 0
        raw = self.config.transform == "raw"
        return len(self.statistics.mean) if raw else self.statistics.projection.shape[1]

    def _crop_half(self, seen: Seen, box: Box) -> Tensor:
        return self._pooled(seen.regions[box].layers[self.layer])

    def _pooled(self, tokens: Tensor) -> Tensor:
        tokens = flat(tokens.float().cpu())
        return tokens[-1] if self.config.pooling == "last" else tokens.mean(0)
