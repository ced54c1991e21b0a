"""Embeddings of images and texts."""

from .dual import NO_LAYER, DualEmbedder, EmbeddingConfig
from .reference import reference_images
from .sentence import EMBEDDED, SentenceEncoder
from .statistics_cache import statistics_of, tensors_of
from .vision import QUERY_REGIONS, Statistics, pool

__all__ = [
    "EMBEDDED",
    "NO_LAYER",
    "QUERY_REGIONS",
    "DualEmbedder",
    "EmbeddingConfig",
    "SentenceEncoder",
    "Statistics",
    "pool",
    "reference_images",
    "statistics_of",
    "tensors_of",
]
