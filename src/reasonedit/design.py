"""All choices of the method in one place, and how they are read from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from reasonedit.embedding import EmbeddingConfig
from reasonedit.embedding.reference import OWN
from reasonedit.errors import InputError, ReasonEditError
from reasonedit.evidence import EvidenceConfig
from reasonedit.former_names import current_design
from reasonedit.registry import lookup
from reasonedit.retrieval import RetrievalConfig
from reasonedit.util.regular import read_file
from reasonedit.util.strictjson import strict_json
from reasonedit.vlm.interface import VLM
from reasonedit.vlm.vision import IMAGE_FEATURES

MOST_DESIGN = 1 << 20
"""The most bytes of a design's file; that of ``reasonedit select`` has some thousands."""

ENTRIES = ("all", "answer", "reasoning")
KEYS = ("both", "image", "patch", "grounded")


@dataclass(frozen=True)
class WritingConfig:
    """What an edit writes into the codebook; the defaults are the paper's (arXiv 2602.02408).

    Attributes:
        entries: ``"all"`` facts, the ``"answer"`` alone, or the ``"reasoning"`` alone.
        keys: The keys of a sentence: the whole ``"image"``; each region (``"patch"``) of its evidence; ``"both"``; or
            ``"grounded"``: the regions of its evidence, or its text alone where it has none.
        question_keys: Whether each sentence also gets keys with the edit's question in place of its own text.
        merge: Whether a key merges into one that it nearly coincides with; radii are only measured for that.
        seed: Seed of the augmented copies by which radii are measured.
        region_views: In how many more views each region is seen (see :mod:`reasonedit.embedding.views`); its key is the
            mean of all.

    Raises:
        InputError: A value is out of range.
    """

    entries: str = "all"
    keys: str = "both"
    question_keys: bool = False
    merge: bool = True
    seed: int = 0
    region_views: int = 0

    def __post_init__(self) -> None:
        for name, known in (("entries", ENTRIES), ("keys", KEYS)):
            if getattr(self, name) not in known:
                raise InputError(f"{name} must be one of {', '.join(known)}, not '{getattr(self, name)}'.")

        if self.region_views < 0:
            raise InputError(f"region_views must be 0 or more, not {self.region_views}.")

    @property
    def seeks_evidence(self) -> bool:
        """Whether evidence is sought for sentences that come without it: some keys are made of it."""
        return self.entries != "answer" and self.keys != "image"


@dataclass(frozen=True)
class Design:
    """How edits are embedded, grounded, written and fetched; the defaults are the paper's."""

    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    evidence: EvidenceConfig = field(default_factory=EvidenceConfig)
    writing: WritingConfig = field(default_factory=WritingConfig)
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)

    @classmethod
    def default(cls, model: str) -> Design:
        """The design of a VLM that is given no other: the one registered under its name, or :data:`DEFAULT`."""
        design: Design | None = lookup("designs", model)
        return design if design is not None else DEFAULT

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Design:
        """A design from nested dicts, by the names of today or of earlier versions; what is left out is the paper's.

        Raises:
            InputError: A name is unknown or a value out of range.
        """
        design: Design = _build(cls, current_design(values), "design")
        return design

    def to_dict(self) -> dict[str, Any]:
        """The design as nested dicts."""
        return asdict(self)

    def checked(self, vlm: VLM) -> Design:
        """This design, if a VLM gives all that it takes.

        Raises:
            NotServedError: It scores sentences, of which the VLM gives no likelihoods.
        """
        if self.writing.seeks_evidence and self.evidence.single_window is None:
            vlm.check_likelihoods()
        return self

    @classmethod
    def load(cls, path: str | os.PathLike[str], base: Design | None = None) -> Design:
        """A design from a JSON file, such as ``reasonedit select`` writes.

        Args:
            path: The file; its ``"design"`` where it has one, else all of it.
            base: The values of what the file leaves out; the paper's when not given.

        Raises:
            InputError: The file cannot be read or holds something else.
        """
        try:
            values = strict_json(read_file(Path(path), MOST_DESIGN, f"The design '{path}'").decode("utf-8-sig"))
        except ReasonEditError:
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError(f"The design '{path}' cannot be read ({reason}): name a JSON file.") from error
        if not isinstance(values, dict):
            raise InputError(f"The design '{path}' is not a JSON object.")
        given = values.get("design", values)
        if not isinstance(given, dict):
            raise InputError(f"The 'design' in '{path}' is not a JSON object.")
        merged = (base or cls()).to_dict()
        for name, part in current_design(given).items():
            merged[name] = {**merged.get(name, {}), **part} if isinstance(part, dict) else part
        return cls.from_dict(merged)


def _build(cls: type[Any], values: Mapping[str, Any], where: str) -> Any:
    """A dataclass from nested dicts; ``where`` is its name in messages."""
    known = {f.name: f for f in fields(cls)}
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise InputError(f"The {where} has no '{unknown[0]}': it has {', '.join(known)}.")
    arguments = {}
    for name, value in values.items():
        default = known[name].default_factory
        part = default() if callable(default) else None
        is_part = is_dataclass(part) and isinstance(value, Mapping)
        arguments[name] = _build(type(part), value, name) if is_part else value
    for name, value in arguments.items():
        _check_type(value, get_type_hints(cls)[name], name, where)
    return cls(**arguments)


def _check_type(value: Any, hint: Any, name: str, where: str) -> None:
    """Refuse a value of another type than a field has."""
    kinds = get_args(hint) or (hint,)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    fits = isinstance(value, tuple(k for k in kinds if k not in (int, float)))
    if not fits and not (float in kinds and number) and not (int in kinds and number and isinstance(value, int)):
        wanted = " or ".join("nothing" if k is type(None) else k.__name__ for k in kinds)
        raise InputError(f"'{name}' of the {where} must be {wanted}, not {value!r}.")


PAPER = Design()
"""The paper's design (arXiv 2602.02408)."""

DEFAULT = Design(
    EmbeddingConfig(IMAGE_FEATURES, text_weight=1.4, transform="whitened", reference=OWN, region_source="crops"),
    EvidenceConfig(single_window=0.002),
    WritingConfig(entries="all", keys="grounded", question_keys=True, region_views=3),
    RetrievalConfig(
        k=5,
        k_counts="facts",
        percentile=25.0,
        gate_per_fact=True,
        query_regions=True,
        visual_match=2.0,
        false_alarms=0.05,
        out_of_range=0.01,
        k_answers=1,
        verify=0.5,
        visual_margin=1.2,
        chain=True,
        naming=True,
    ),
)
"""Ours, for any VLM: no labels are in it, and what a VLM's numbers mean it learns from its user's own pictures.

It won on development seeds of the embedded world. The weight w means the same for every VLM, since unrelated pictures
are at distance 1; thresholds are rates of false alarms, and standard deviations of unrelated pictures.
"""
