"""What a calibration was made of and for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from reasonedit.embedding import NO_LAYER, DualEmbedder, EmbeddingConfig
from reasonedit.errors import InputError, MismatchError

_SETTINGS = ("layer", "pooling", "transform", "region_source")


@dataclass(frozen=True)
class CalibrationRecord:
    """What a calibration was made of and for.

    Attributes:
        model: The VLM's name.
        parts: What the layer's activations depend on, each part with its checksum.
        layer: The layer.
        pooling: How its tokens are pooled; this and the next two as in :class:`~reasonedit.embedding.EmbeddingConfig`.
        transform: How pooled tokens are transformed.
        region_source: Where the regions of a picture come from.
        pictures: How many pictures were used.
        source: What they are called.
        left_out: What was left out of them and why, a sentence each.
        seconds: How long it took.
        layers: The score of each layer that was compared, where the layer was chosen by the pictures.
        seed: Seed of the views by which layers were compared.
        versions: Versions of the packages.
    """

    model: str
    parts: dict[str, str]
    layer: str
    pooling: str
    transform: str
    region_source: str
    pictures: int
    source: str
    left_out: list[str] = field(default_factory=list)
    seconds: float = 0.0
    layers: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, embedder: DualEmbedder, pictures: int, source: str) -> CalibrationRecord:
        """The record of a calibration by an embedder.

        Raises:
            InputError: The embedder reads no layer: there is nothing to calibrate.
        """
        if embedder.layer == NO_LAYER:
            raise InputError("This design embeds texts alone: there is nothing that pictures could calibrate.")
        settings = {name: getattr(embedder.config, name) for name in _SETTINGS}
        return cls(
            embedder.vlm.name, embedder.vlm.key_parts(embedder.layer), **settings, pictures=pictures, source=source
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> CalibrationRecord:
        """From JSON.

        Raises:
            TypeError: A field is missing, unknown or of another type.
        """
        record = cls(**values)
        kinds = {"parts": dict, "left_out": list, "layers": dict, "versions": dict, "pictures": int, "seed": int}
        for part in fields(cls):
            kind = kinds.get(part.name, (int, float) if part.name == "seconds" else str)
            if not isinstance(getattr(record, part.name), kind):
                raise TypeError(f"'{part.name}' is none")
        return record

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def embedding(self, config: EmbeddingConfig, default: bool) -> EmbeddingConfig:
        """A design's embedding with the calibration's layer, where the design names none or is only the default."""
        return replace(config, layer=self.layer) if default or not config.layer else config

    def check(self, embedder: DualEmbedder) -> None:
        """Refuse an embedder that reads another VLM, or in another way.

        Raises:
            MismatchError: It does; the message says in what.
        """
        other = CalibrationRecord.of(embedder, self.pictures, self.source)
        differing = [
            f"{name}: '{getattr(self, name)}' there, '{getattr(other, name)}' here"
            for name in _SETTINGS
            if getattr(self, name) != getattr(other, name)
        ]
        if self.parts != other.parts:
            names = [n for n in {**self.parts, **other.parts} if self.parts.get(n) != other.parts.get(n)]
            differing.insert(
                0, f"'{self.model}' there, '{other.model}' here, which differ in {', '.join(sorted(names))}"
            )
        if differing:
            raise MismatchError(
                f"The calibration was made for another VLM or setting ({'; '.join(differing)}): make one for this by "
                "'reasonedit calibrate'."
            )
