"""The design that the embedded VLM gets by default."""

from __future__ import annotations

from reasonedit.design import Design, WritingConfig
from reasonedit.embedding import EmbeddingConfig
from reasonedit.evidence import EvidenceConfig
from reasonedit.retrieval import RetrievalConfig

GROUNDED = Design(
    EmbeddingConfig(text_weight=1.4, transform="discriminant", reference="world", region_source="crops"),
    EvidenceConfig(single_window=0.002),
    WritingConfig(entries="all", keys="grounded", question_keys=True),
    RetrievalConfig(
        k=5,
        k_counts="facts",
        percentile=10.0,
        gate_per_fact=True,
        query_regions=True,
        visual_match=2.5,
        k_answers=1,
        verify=0.5,
        visual_margin=1.2,
        chain=True,
    ),
)
"""Ours, as it won on the development seeds of the embedded world."""
