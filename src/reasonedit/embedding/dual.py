"""The dual embedding ``E(i, t) = [v(i) ; w * s(t)]`` (section 4 of the method; arXiv 2602.02408)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

import reasonedit.vlm
from reasonedit.boxes import WHOLE, Box
from reasonedit.errors import InputError
from reasonedit.evidence.windows import crop, shrink
from reasonedit.prompts import DESCRIBE
from reasonedit.registry import lookup
from reasonedit.util.ahead import Ahead
from reasonedit.util.dependencies import code_version
from reasonedit.vlm import VLM, Vision
from reasonedit.vlm.devices import run_in_parts
from reasonedit.vlm.vision import IMAGE_FEATURES, Seen, flat

from .config import NO_LAYER, EmbeddingConfig
from .pooling import QUERY_REGIONS, check_activations, pool, tokens_to_pool
from .reference import is_named, reference_images, reference_things
from .sentence import SentenceEncoder
from .statistics import ReferenceTokens, Statistics, distance_apart
from .statistics_cache import load_or_measure
from .views import PARTS, VIEWS, views_of_parts

Coming: TypeAlias = Ahead[Tensor]
"""Sentence halves that another thread is making."""

KEYS_MADE = 2
"""The version of the way in which keys are made: it is raised when new keys cannot be compared with the old ones."""

_AT_ONCE = 32
"""Images that pass the vision part at once."""

_ALIKE = 1e-4
"""Mean tokens that lie no farther apart than this share of their length differ by rounding alone."""


class DualEmbedder:
    """Embeds pairs of image and text.

    The vision half is divided by the root mean square distance between unrelated pictures. So two unrelated pictures
    are at distance 1, and w means the same for every model, layer and transform.

    Args:
        vlm: The VLM whose layer is read.
        config: Layer, pooling, transform, weight and sentence encoder.
        encoder: The sentence encoder, loaded by ``config.encoder`` when not given.
        statistics: Statistics of the reference pictures, when they are known already.

    Raises:
        InputError: The model has no such layer, or the transform does not go with it.
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
        self.layer = _layer_of(vlm, config.layer)
        self.reads_language = self.layer in vlm.language_layers
        if self.layer not in (NO_LAYER, *vlm.language_layers):
            vlm.check_layer(self.layer)
        if config.transform == "discriminant" and self.layer == NO_LAYER:
            raise InputError("Without a layer there is nothing to transform: 'discriminant' needs one.")
        if self.reads_language and config.transform != "raw":
            raise InputError(f"The layer '{self.layer}' reads texts too: only the transform 'raw' goes with it.")
        self.encoder = encoder or SentenceEncoder.from_pretrained(config.encoder)
        self.config = EmbeddingConfig(**{**asdict(config), "layer": self.layer, "encoder": self.encoder.name})
        self._statistics = statistics
        # A folder is read later, when the working folder may be another one.
        self._reference = config.reference if is_named(config.reference) else os.path.abspath(config.reference)

    @property
    def fingerprint(self) -> dict[str, object]:
        """What stored keys depend on: the halves that they have, and how these are put together.

        Of the VLM that is what the layer depends on (see :mod:`reasonedit.vlm.identity`), of the sentence encoder its
        weights and its tokenizer, but not its name.
        """
        settings = {k: v for k, v in asdict(self.config).items() if k != "encoder"}
        vision_half = self.vlm.key_parts(self.layer) if self.layer != NO_LAYER else {}
        sentence_half = {"sentence_encoder": self._encoder_identity} if self.config.text_weight else {}
        return {"keys_made": KEYS_MADE, **vision_half, **sentence_half, **settings}

    @property
    def _encoder_identity(self) -> str:
        return str(getattr(self.encoder, "identity", self.encoder.name))  # an encoder without weights has only a name

    @property
    def layers(self) -> list[str]:
        """Vision-side layers that :meth:`see` keeps."""
        return [] if self.reads_language or self.layer == NO_LAYER else [self.layer]

    @property
    def statistics(self) -> Statistics:
        """Statistics of the reference pictures, measured when they are first needed."""
        if self._statistics is None:
            with self.vlm.guard:  # once, however many threads need them
                if self._statistics is None:
                    self._statistics = self._load_statistics()
        return self._statistics

    def use(self, statistics: Statistics | None) -> None:
        """Embed by other statistics from now on; by those of the design's reference where there are none."""
        self._statistics = statistics

    def _load_statistics(self) -> Statistics:
        c = self.config
        if not is_named(c.reference):  # a folder may change
            return self._measure_statistics()
        parts = self.vlm.key_parts(c.layer) if c.layer != NO_LAYER else {}
        offered = lookup("references", c.reference)  # the code that makes the pictures counts as well
        code = code_version(reasonedit.vlm, DualEmbedder, *([offered] if offered is not None else []))
        models = [*(f"{k} {v}" for k, v in parts.items()), str(self.vlm.dtype), str(self.vlm.device)]
        settings = [c.layer, c.pooling, c.transform, c.reference, c.region_source]
        return load_or_measure([*models, *settings, code], self._measure_statistics)

    def _measure_statistics(self) -> Statistics:
        reference = ReferenceTokens()
        images = reference_images(self._reference)
        run_in_parts(range(len(images)), _AT_ONCE, lambda part: self.read([images[i] for i in part], reference))
        return self.measure(reference)

    def read(self, images: Sequence[Image.Image], reference: ReferenceTokens, vision: Vision | None = None) -> None:
        """Add pictures to those that statistics are made of.

        Args:
            images: The pictures.
            reference: What they are added to.
            vision: Their vision pass, where there was one already that kept :attr:`layers`. Regions that did not pass
                by themselves are pooled from it.

        Raises:
            InputError: The layer's activations are not finite; no picture was added.
        """
        vision = vision or self.see(images, regions=True)
        if self.reads_language:
            read = self.vlm.language_states(vision, [DESCRIBE] * len(vision), self.layer)
        else:
            read = vision.layer(self.layer)
        pooling = self.config.pooling
        views = self._see_parts(images) if self.config.transform == "whitened" else [None] * len(images)
        added = []
        for tokens, seen, of_parts in zip(read, vision.images, views, strict=True):
            if seen.regions:
                regions = torch.stack([self._pool_crop(seen, box) for box in QUERY_REGIONS])
            elif pooling == "last" or tokens.dim() != 3:
                regions = None
            else:
                regions = pool(tokens.float().cpu(), QUERY_REGIONS, seen.view)
            added.append((tokens_to_pool(tokens.float().cpu(), pooling), regions, of_parts))
            for numbers in added[-1]:
                if numbers is not None:
                    check_activations(numbers, self.layer)
        for parts in added:  # all or none: where memory runs out, the pictures are read again
            reference.add(*parts)

    def _see_parts(self, images: Sequence[Image.Image]) -> list[Tensor]:
        """Parts of images in several views: of each image (parts, views, D)."""
        pictures = [view for image in images for view in views_of_parts(image)]
        pooled: list[Tensor] = []

        def see_part(part: list[int]) -> None:
            vision = self.vlm.see([pictures[i] for i in part], self.layers)
            pooled.extend([self._pool_whole(tokens) for tokens in vision.layer(self.layer)])  # all or none

        run_in_parts(range(len(pictures)), _AT_ONCE, see_part)
        return list(torch.stack(pooled).view(len(images), PARTS, VIEWS, -1))

    def measure(self, reference: ReferenceTokens) -> Statistics:
        """Statistics of pictures that were :meth:`read`.

        Raises:
            InputError: All pictures are alike; or the transform is ``"discriminant"``, and the design's reference has
                no pictures of things.
        """
        wholes = torch.cat(reference.wholes)
        if distance_apart(wholes) <= _ALIKE * float(wholes.norm(dim=1).mean()):
            raise InputError(
                f"In the layer '{self.layer}' all {len(wholes)} pictures are alike, so that nothing can be learnt from "
                "them: give pictures that show different things."
            )
        things = self._pool_things() if self.config.transform == "discriminant" else None
        statistics = Statistics.of(reference, self.config.transform, things)
        return statistics if self.reads_language else statistics.compared(reference, self.config.transform)

    def _pool_things(self) -> tuple[Tensor, Tensor]:
        pictures, things = reference_things(self._reference)
        pooled: list[Tensor] = []

        def pool_part(part: list[int]) -> None:
            vision = self.vlm.see([pictures[i] for i in part], self.layers)
            pooled.extend([self._pool_whole(tokens) for tokens in vision.layer(self.layer)])  # all or none

        run_in_parts(range(len(pictures)), _AT_ONCE, pool_part)
        return torch.stack(pooled), torch.tensor(things)

    def see(self, images: Sequence[Image.Image], *, regions: bool = False, vision: Vision | None = None) -> Vision:
        """Run the vision part, keeping the layer that is read here.

        Args:
            images: The images, each of which passes once.
            regions: Whether the query regions will be embedded: where they are crops, each of them passes as well.
            vision: The pass of the images, where there was one already: only the regions pass then.
        """
        boxes = QUERY_REGIONS if regions and self._crops_regions else ()
        small = [shrink(image) for image in images] if boxes else []
        pictures = [] if vision is not None else list(images)
        pictures += [crop(image, box) for image in small for box in boxes]
        passes: list[Seen] = []

        def see_part(part: list[int]) -> None:
            passes.extend(self.vlm.see([pictures[i] for i in part], self.layers).images)

        run_in_parts(range(len(pictures)), max(_AT_ONCE, len(images)), see_part)
        if vision is None:
            vision, passes = Vision(passes[: len(images)]), passes[len(images) :]
        remaining = iter(passes)
        for image in vision.images if boxes else ():
            image.regions = {box: next(remaining) for box in boxes}
        return vision

    def has(self, vision: object, *, regions: bool = False) -> bool:
        """Whether a vision pass kept the layer that is read here; arguments as for :meth:`see`."""
        if not isinstance(vision, Vision) or not all(n in seen.layers for seen in vision.images for n in self.layers):
            return False
        return not (regions and self._crops_regions) or all(seen.regions for seen in vision.images)

    @property
    def _crops_regions(self) -> bool:
        return self.config.region_source == "crops" and bool(self.layers)

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Sentence halves: (texts, width of the encoder), w included."""
        return self.config.text_weight * self.encoder.encode([self.vlm.clean(t) for t in texts])

    def begin_texts(self, texts: Sequence[str]) -> Coming:
        """Begin to embed texts as :meth:`embed_texts` does, while the VLM sees their pictures."""
        cleaned = [self.vlm.clean(t) for t in texts]  # here: the other thread is not to wait for the VLM
        return Ahead(lambda: self.config.text_weight * self.encoder.encode(cleaned))

    def embed_regions(self, vision: Vision, boxes: Sequence[Sequence[Box]]) -> list[Tensor]:
        """Vision halves of regions, pooled from the tokens of one pass.

        Args:
            vision: Images, from :meth:`see`.
            boxes: For each image its regions.

        Returns:
            For each image (boxes, D), float32 on the CPU.

        Raises:
            InputError: The layer has no regions.
        """
        if self.layer == NO_LAYER:
            return [torch.zeros(len(of_image), 0) for of_image in boxes]
        halves = [self.statistics.apply(pooled, self.config.transform) for pooled in self._pool_regions(vision, boxes)]
        return [check_activations(half, self.layer) for half in halves]

    def embed_views(self, views: Vision) -> Tensor:
        """The vision half of one region that was seen several times: the mean of its views, as long as that of one.

        What the views do not have in common, such as what stands beside the region, counts less in it.

        Args:
            views: The region, then its views, from :meth:`see`.

        Returns:
            (D,), float32 on the CPU.
        """
        halves = torch.cat(self.embed_regions(views, [[WHOLE]] * len(views)))
        mean = halves.mean(0)
        if self.config.transform != "raw" and len(halves) > 1:
            mean *= halves[0].norm() / mean.norm().clamp(min=torch.finfo(mean.dtype).tiny)
        return mean

    def along(self, vision: Vision, boxes: Sequence[Sequence[Box]]) -> list[Tensor]:
        """Regions along the statistics' directions, by which it is told whether a picture is like the reference's.

        Arguments, result and errors as for :meth:`embed_regions`.
        """
        return [self.statistics.along(pooled) for pooled in self._pool_regions(vision, boxes)]

    def _pool_regions(self, vision: Vision, boxes: Sequence[Sequence[Box]]) -> list[Tensor]:
        """Mean tokens of regions, (boxes, D) for each image; arguments and errors as for :meth:`embed_regions`."""
        parts = any(box != WHOLE for of_image in boxes for box in of_image)
        if self.reads_language or (self.config.pooling == "last" and parts):
            raise InputError(f"The layer '{self.layer}' with pooling '{self.config.pooling}' has no regions.")
        means = []
        for seen, of_image in zip(vision.images, boxes, strict=True):
            tokens = seen.layers[self.layer].float().cpu()
            if self.config.pooling == "last":
                pooled = flat(tokens)[-1:].expand(len(of_image), -1)
            else:
                rows = [
                    self._pool_crop(seen, box) if box in seen.regions else pool(tokens, [box], seen.view)[0]
                    for box in of_image
                ]
                pooled = torch.stack(rows) if rows else flat(tokens)[:0]
            means.append(pooled)
        return means

    def embed(self, vision: Vision, texts: Sequence[str], ahead: Coming | None = None) -> Tensor:
        """Embed one text with each whole image.

        Args:
            vision: Images, from :meth:`see`.
            texts: One text per image.
            ahead: Their sentence halves, if :meth:`begin_texts` began them.

        Returns:
            (texts, width of the layer + width of the encoder), float32, on the CPU.
        """
        if len(vision) != len(texts):
            raise ValueError(f"{len(vision)} images but {len(texts)} texts")
        if self.reads_language:
            states = self.vlm.language_states(vision, texts, self.layer)
            vision_halves = torch.stack([self._pool_whole(s) for s in states]) / self.statistics.scale
            check_activations(vision_halves, self.layer)
        else:
            vision_halves = torch.cat(self.embed_regions(vision, [[WHOLE]] * len(vision)))
        sentence_halves = ahead.result() if ahead is not None else self.embed_texts(texts)
        return torch.cat([vision_halves, sentence_halves], dim=1)

    @property
    def width(self) -> int:
        """Width of the vision half."""
        if self.layer == NO_LAYER:
            return 0
        raw = self.config.transform == "raw"
        return len(self.statistics.mean) if raw else self.statistics.projection.shape[1]

    def _pool_crop(self, seen: Seen, box: Box) -> Tensor:
        return self._pool_whole(seen.regions[box].layers[self.layer])

    def _pool_whole(self, tokens: Tensor) -> Tensor:
        tokens = flat(tokens.float().cpu())
        return tokens[-1] if self.config.pooling == "last" else tokens.mean(0)


def _layer_of(vlm: VLM, name: str) -> str:
    """The layer that a design names: the projector where it names none.

    A VLM that no family serves does not tell what enters its language model: in place of this the last block of its
    vision part is read, its "projector".
    """
    return vlm.projector if not name or (name == IMAGE_FEATURES and name not in vlm.vision_layers) else name
