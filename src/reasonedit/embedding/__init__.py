"""Embeddings of images and texts."""

from .config import NO_LAYER, EmbeddingConfig
from .dual import Coming, DualEmbedder
from .pooling import QUERY_REGIONS, pool
from .reference import reference_images
from .sentence import EMBEDDED, SentenceEncoder
from .statistics import Statistics, statistics_of, tensors_of

__all__ = [
    "EMBEDDED",
    "NO_LAYER",
    "QUERY_REGIONS",
    "Coming",
    "DualEmbedder",
    "EmbeddingConfig",
    "SentenceEncoder",
    "Statistics",
    "pool",
    "reference_images",
    "statistics_of",
    "tensors_of",
]
